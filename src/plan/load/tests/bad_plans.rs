//! A table of bad plans: what is wrong with each, as code and field, and the sentences a user
//! gets to read in one snapshot.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::*;

/// Lines put after the minimal plan (or a whole plan, if they start with `version`), and the
/// problems they make.
const ROWS: &[(&str, &[&str])] = &[
    // The shape of the file.
    ("a: [", &["not-yaml "]),
    ("nodes: []", &["unknown-field nodes"]),
    ("podCidrs: []", &["unknown-field podCidrs"]),
    ("network: {cni: {flannel: {bakend: vxlan}}}", &["unknown-field network.cni.flannel.bakend"]),
    ("pki: {validity: 1 year, algorithm: RSA2048}", &["malformed pki.validity", "unknown-value pki.algorithm"]),
    ("images: {pull: yes}", &["ambiguous-scalar images.pull"]),
    ("network: {nodeMaskV4: 024, dnsDomain: 1.5}", &["ambiguous-scalar network.nodeMaskV4", "wrong-type network.dnsDomain"]),
    ("network: {podCidrs: 10.1.0.0/16, nodeMaskV6: 300}", &["wrong-type network.podCidrs", "out-of-range network.nodeMaskV6"]),
    ("network: {podCidrs: [10.1.0.0]}", &["malformed network.podCidrs[0]"]),
    ("network: {cni: flannel}", &["wrong-type network.cni"]),
    ("network: {cni: {none: {}}}", &["wrong-type network.cni"]),
    ("network: {cni: calico}", &["unknown-value network.cni"]),
    ("network: {cni: {bridge: {}, flannel: {}}}", &["choose-one network.cni"]),
    ("binaries: {kublet: preinstalled}", &["unknown-value binaries.kublet"]),
    ("apiServer: {extraArgs: {v: 1.5, w: {}}}", &["wrong-type apiServer.extraArgs.v", "wrong-type apiServer.extraArgs.w"]),
    ("ssh: {user: \"a\\nb\"}", &["control-character ssh.user"]),
    ("images: {archives: [{file: a, roles: [worker, worker]}]}", &["duplicate-item images.archives[0].roles[1]"]),
    ("version: 1\nkubernetes: {}\nhosts: []", &["missing-field kubernetes.version", "empty-list hosts"]),
    ("version: \"1\"\nkubernetes: {version: 1.34}\nhosts:\n  - {name: A, adress: 10.0.0.300, roles: [master]}", &[
        "wrong-type version", "wrong-type kubernetes.version", "missing-field hosts[0].address", "malformed hosts[0].name",
        "unknown-field hosts[0].adress", "unknown-value hosts[0].roles[0]",
    ]),
    // Shape and meaning at once; what depends on a field that cannot be used is not judged.
    ("network: {serviceCidr: [10.1.0.0/16], podCidrs: [10.96.0.0/16]}\nlimit: {}\ncoreDns: {replicas: 0}", &[
        "unknown-field network.serviceCidr", "unknown-field limit", "replicas coreDns.replicas",
    ]),
    // Versions.
    ("version: 1\nkubernetes: {version: v1.30.0}\nhosts: [{name: a, address: 192.0.2.1, roles: [control-plane]}]", &["version-unsupported kubernetes.version"]),
    ("version: 1\nkubernetes: {version: v1.34.2, imageRepository: https://a, featureGates: {nodeSwap: true}}\nhosts: [{name: a, address: 192.0.2.1, roles: [control-plane]}]", &[
        "image-syntax kubernetes.imageRepository", "feature-gate-name kubernetes.featureGates.nodeSwap",
    ]),
    // Hosts.
    ("version: 1\nkubernetes: {version: v1.34.2}\nhosts: [{name: a, address: 192.0.2.1, roles: [worker]}]", &["no-control-plane hosts"]),
    ("  - {name: cp-1, address: 192.0.2.11, roles: [worker]}", &["duplicate-name hosts[1].name", "duplicate-address hosts[1].address"]),
    ("  - {name: w, address: 192.0.2.12, roles: [worker], ssh: {address: 192.0.2.11}}", &["duplicate-ssh-target hosts[1].ssh.address"]),
    ("  - {name: w, address: 127.0.0.1, roles: [worker]}\n  - {name: x, address: 224.0.0.1, roles: [worker]}", &["reserved-address hosts[1].address", "reserved-address hosts[2].address"]),
    ("  - {name: w, address: 192.0.2.12, secondAddress: 192.0.2.13, roles: [worker]}", &["address-family hosts[1].secondAddress"]),
    ("  - {name: w, address: \"2001:db8::1\", roles: [worker]}", &["address-family hosts[1].address"]),
    ("  - {name: w, address: 192.0.2.12, roles: [worker], ssh: {address: a b, user: -x, port: 0, hostKey: ssh-rsa x, jumpHosts: [\"a:b\"]}}", &[
        "ssh-address-syntax hosts[1].ssh.address", "ssh-user-syntax hosts[1].ssh.user", "port-zero hosts[1].ssh.port",
        "host-key-syntax hosts[1].ssh.hostKey", "jump-host-syntax hosts[1].ssh.jumpHosts[0]",
    ]),
    ("ssh: {connectTimeout: 0s}", &["zero-duration ssh.connectTimeout"]),
    ("ssh: {persist: 59s}", &["short-persist ssh.persist"]),
    ("ssh: {user: admin, sudo: false}", &["not-root ssh.sudo"]),
    ("  - {name: e, address: 192.0.2.12, roles: [etcd], labels: {a: b}}", &["no-node hosts[1].labels"]),
    // The endpoint.
    ("  - {name: b, address: 192.0.2.12, roles: [control-plane]}", &["endpoint-missing endpoint", "etcd-even hosts"]),
    ("endpoint: {external: {address: \"https://api\", port: 0}}", &["endpoint-address endpoint.external.address", "port-zero endpoint.external.port"]),
    ("endpoint: {localProxy: {port: 2379, image: A}}", &["port-taken endpoint.localProxy.port", "image-syntax endpoint.localProxy.image"]),
    ("endpoint: {localProxy: {port: 30443}}", &["port-taken endpoint.localProxy.port"]),
    ("endpoint: {vip: {}}", &["missing-field endpoint.vip.address"]),
    ("endpoint: {vip: {address: 192.0.2.11}}", &["vip-address endpoint.vip.address"]),
    ("endpoint: {vip: {address: 127.0.0.1}}", &["vip-address endpoint.vip.address"]),
    ("endpoint: {vip: {address: '2001:db8::100'}}", &["vip-family endpoint.vip.address"]),
    ("endpoint: {vip: {address: 10.96.1.1}}", &["cidr-overlap endpoint.vip.address"]),
    ("endpoint: {vip: {address: 192.0.2.100, port: 6443, healthPort: 10250}}", &["port-taken endpoint.vip.port", "port-taken endpoint.vip.healthPort"]),
    ("endpoint: {vip: {address: 192.0.2.100, port: 8444}}", &["port-taken endpoint.vip.healthPort"]),
    ("endpoint: {vip: {address: 192.0.2.100, virtualRouterId: 0}}", &["out-of-range endpoint.vip.virtualRouterId"]),
    ("endpoint: {vip: {address: 192.0.2.100, interface: a b, keepalivedImage: A}}", &["interface-syntax endpoint.vip.interface", "image-syntax endpoint.vip.keepalivedImage"]),
    // Packages.
    ("binaries: {kubelet: packages}", &["key-missing packages.key"]),
    ("packages: {revision: 1.1-x}", &["unused packages"]),
    ("binaries: {kubelet: packages}\npackages: {repository: 'ftp://a', key: {file: '', fingerprint: AB}, revision: ' 1'}", &[
        "url-syntax packages.repository", "file-name packages.key.file", "fingerprint packages.key.fingerprint", "version-syntax packages.revision",
    ]),
    ("binaries: {kubelet: packages}\npackages: {key: {fingerprint: DE15 B144 86CD 377B 9E87 6E1A 2346 54DA 9A29 6436}}", &["key-source packages.key"]),
    ("binaries: {kubelet: packages}\npackages: {key: {file: /dev/null, url: 'https://a/k', fingerprint: DE15 B144 86CD 377B 9E87 6E1A 2346 54DA 9A29 6436}}", &["key-source packages.key"]),
    ("binaries: {kubelet: packages}\npackages: {key: {url: 'http://a/k', fingerprint: DE15 B144 86CD 377B 9E87 6E1A 2346 54DA 9A29 6436}}", &["url-syntax packages.key.url"]),
    ("binaries: {kubelet: packages}\npackages: {key: {url: 'https://a/{minor}/{format}', fingerprint: DE15 B144 86CD 377B 9E87 6E1A 2346 54DA 9A29 6436}}", &["placeholder packages.key.url"]),
    ("binaries: {containerd: packages}\npackages: {repository: 'https://a/{arch}/', versions: {containerd: latest, kubelet: '1.34.2'}}", &[
        "placeholder packages.repository", "version-syntax packages.versions.containerd", "version-syntax packages.versions.kubelet",
    ]),
    ("binaries: {containerd: packages}\npackages: {repository: 'https://a.example.test/deb'}", &["url-syntax packages.repository"]),
    // Networks.
    ("network: {podCidrs: []}", &["cidr-count network.podCidrs"]),
    ("network: {podCidrs: [10.1.0.1/16]}", &["cidr-host-bits network.podCidrs[0]"]),
    ("network: {podCidrs: [10.1.0.0/16, 10.2.0.0/16]}", &["cidr-family network.podCidrs[1]"]),
    ("network: {podCidrs: [10.1.0.0/16, \"fd00::/48\"]}", &["second-address-missing hosts[0]", "cidr-family network.serviceCidrs"]),
    ("network: {podCidrs: [10.96.0.0/16]}", &["cidr-overlap network.serviceCidrs[0]"]),
    ("network: {podCidrs: [192.0.0.0/16]}", &["cidr-overlap hosts[0].address"]),
    ("network: {serviceCidrs: [10.96.0.0/29]}", &["service-cidr-size network.serviceCidrs[0]"]),
    ("network: {serviceCidrs: [11.0.0.0/8]}", &["service-cidr-size network.serviceCidrs[0]"]),
    ("network: {nodeMaskV4: 30}", &["node-mask network.nodeMaskV4"]),
    ("network: {nodeMaskV4: 12}", &["node-mask network.nodeMaskV4"]),
    ("network: {podCidrs: [10.0.0.0/10], nodeMaskV4: 28}", &["node-mask network.nodeMaskV4"]),
    ("  - {name: w, address: 192.0.2.12, roles: [worker]}\nnetwork: {podCidrs: [10.1.0.0/24]}", &["pod-cidr-size network.podCidrs[0]"]),
    ("network: {dnsDomain: Cluster.local}", &["dns-domain network.dnsDomain"]),
    ("network: {cni: {bridge: {mtu: 100}}}", &["mtu network.cni.bridge.mtu"]),
    ("network: {cni: {flannel: {image: \"\"}}}", &["image-syntax network.cni.flannel.image"]),
    ("network: {cni: {manifest: {sources: []}}}", &["manifest-missing network.cni.manifest.sources"]),
    ("  - {name: w, address: 192.0.2.12, roles: [worker], podCidrs: [10.9.0.0/24]}", &["pod-cidr-share hosts[1].podCidrs[0]"]),
    ("  - {name: w, address: 192.0.2.12, roles: [worker], podCidrs: [10.244.1.0/25]}\nnetwork: {cni: none}", &["pod-cidr-unused hosts[1].podCidrs", "pod-cidr-share hosts[1].podCidrs[0]"]),
    ("version: 1\nkubernetes: {version: v1.20.2}\nnetwork: {podCidrs: [10.1.0.0/16, \"fd00::/48\"], serviceCidrs: [10.96.0.0/16, \"fd01::/112\"]}\nhosts: [{name: a, address: 192.0.2.1, secondAddress: \"2001:db8::1\", roles: [control-plane]}]", &["dual-stack-version network.podCidrs"]),
    // etcd.
    ("etcd: {external: {endpoints: [\"http://a\", \"https://b/x\"], caFile: a, certificateFile: b, keyFile: c}}\n", &["etcd-endpoint etcd.external.endpoints[0]", "etcd-endpoint etcd.external.endpoints[1]"]),
    ("  - {name: e, address: 192.0.2.12, roles: [etcd]}\netcd: {external: {endpoints: [\"https://a:2379\"], caFile: a, certificateFile: b, keyFile: c}}", &["etcd-role-with-external hosts[1].roles"]),
    ("etcd: {dataDirectory: /data, extraSans: [\"a b\"], image: \":\"}", &["etcd-data-directory etcd.dataDirectory", "san-syntax etcd.extraSans[0]", "image-syntax etcd.image"]),
    ("etcd: {dataDirectory: /etc/kubernetes/etcd}", &["etcd-data-directory etcd.dataDirectory"]),
    // Certificates.
    ("pki: {validity: 0s, extraSans: [a.test, a.test]}", &["pki-renewal pki.renewBefore", "pki-validity pki.validity", "san-repeated pki.extraSans[1]"]),
    ("pki: {validity: 9000h, caValidity: 8000h}", &["pki-validity pki.validity", "pki-validity pki.validity"]),
    ("pki: {validity: 720h}", &["pki-renewal pki.renewBefore"]),
    ("pki: {authority: {operator: {directory: d, recipients: [age1x], passphraseFile: p}}}", &["pki-authority pki.authority.operator", "pki-key-store pki.authority.operator.passphraseFile", "pki-key-store pki.authority.operator.recipients[0]"]),
    ("pki: {authority: {operator: {directory: d, identityFile: i}}}", &["pki-authority pki.authority.operator", "pki-key-store pki.authority.operator.identityFile"]),
    ("pki: {authority: {external: {cluster: a, frontProxy: b}}}", &["pki-authority pki.authority.external", "pki-authority pki.authority.external"]),
    // Flags.
    ("apiServer: {extraArgs: {insecure-port: 0, secure-port: 1, --v: 1, feature_gates: a}}", &[
        "flag-removed apiServer.extraArgs.insecure-port", "flag-owned apiServer.extraArgs.secure-port",
        "flag-syntax apiServer.extraArgs.--v", "flag-syntax apiServer.extraArgs.feature_gates",
    ]),
    ("etcd: {extraArgs: {data-dir: /a, experimental-initial-corrupt-check: true, experimental-x: 1}}", &[
        "flag-owned etcd.extraArgs.data-dir", "flag-removed etcd.extraArgs.experimental-initial-corrupt-check",
        "flag-experimental etcd.extraArgs.experimental-x",
    ]),
    ("kubelet: {extraArgs: {pod-infra-container-image: a, config: b}}", &["flag-owned kubelet.extraArgs.pod-infra-container-image", "flag-owned kubelet.extraArgs.config"]),
    ("version: 1\nkubernetes: {version: v1.35.0, featureGates: {NodeSwap: true}}\nkubelet: {extraArgs: {pod-infra-container-image: a, feature-gates: b=true}}\nhosts: [{name: a, address: 192.0.2.1, roles: [control-plane]}]", &[
        "flag-removed kubelet.extraArgs.pod-infra-container-image", "flag-conflict kubelet.extraArgs.feature-gates",
    ]),
    // What the release does not have.
    ("version: 1\nkubernetes: {version: v1.36.2, featureGates: {MemoryManager: true}}\nkubelet: {configuration: {maxPod: 1}}\nhosts: [{name: a, address: 192.0.2.1, roles: [control-plane]}]", &[
        "feature-gate-removed kubernetes.featureGates.MemoryManager", "kubelet-field kubelet.configuration.maxPod",
    ]),
    // Components.
    ("apiServer: {extraEnv: {A B: c}, extraVolumes: [{name: A, hostPath: /a, mountPath: /b, type: Dir}, {name: b, hostPath: /a, mountPath: /b}]}", &[
        "environment-name apiServer.extraEnv[\"A B\"]", "volume-name apiServer.extraVolumes[0].name",
        "volume-type apiServer.extraVolumes[0].type", "volume-duplicate apiServer.extraVolumes[1].mountPath",
    ]),
    ("kubelet: {extraEnv: {A: \"b\\nc\"}}", &["control-character kubelet.extraEnv.A"]),
    ("kubelet: {configuration: {kind: X, staticPodPath: /a, cgroupDriver: cgroupfs, rotateCertificates: false, clusterDNS: [10.0.0.1], authentication: {x509: {clientCAFile: /a}}}}", &[
        "configuration-kind kubelet.configuration.kind", "field-owned kubelet.configuration.staticPodPath",
        "cgroup-driver kubelet.configuration.cgroupDriver", "field-owned kubelet.configuration.rotateCertificates",
        "cluster-dns kubelet.configuration.clusterDNS", "field-owned kubelet.configuration.authentication.x509.clientCAFile",
    ]),
    ("kubeProxy: {enabled: false, mode: ipvs, configuration: {mode: x, clientConnection: {kubeconfig: /a}}}", &[
        "unused kubeProxy", "proxy-mode kubeProxy.mode", "field-owned kubeProxy.configuration.mode", "field-owned kubeProxy.configuration.clientConnection.kubeconfig",
    ]),
    ("version: 1\nkubernetes: {version: v1.20.2}\nkubeProxy: {mode: nftables}\nhosts: [{name: a, address: 192.0.2.1, roles: [control-plane]}]", &["proxy-mode kubeProxy.mode"]),
    ("coreDns: {image: A, corefile: \"\"}\nruntime: {pauseImage: a b}", &["image-syntax coreDns.image", "corefile-empty coreDns.corefile", "image-syntax runtime.pauseImage"]),
    ("limits: {parallelHosts: 0, stepTimeout: 0s}\npreflight: {ignore: [sistemd]}", &["out-of-range limits.parallelHosts", "zero-duration limits.stepTimeout", "check-name preflight.ignore"]),
    // Labels and taints.
    ("  - {name: w, address: 192.0.2.12, roles: [worker], labels: {a b: c, a: \"-\", node-role.kubernetes.io/control-plane: \"\"}, taints: [{key: a, effect: NoExecute}, {key: a, effect: NoExecute}]}", &[
        "label-syntax hosts[1].labels[\"a b\"]", "label-syntax hosts[1].labels.a",
        "label-reserved hosts[1].labels[\"node-role.kubernetes.io/control-plane\"]", "taint-duplicate hosts[1].taints[1]",
    ]),
    // Sources.
    ("binaries: {kubelet: {upload: \"a-{version}.tgz\"}, containerd: {upload: \"\"}}", &[
        "placeholder binaries.kubelet.upload", "archive binaries.kubelet.upload", "file-name binaries.containerd.upload", "archive binaries.containerd.upload",
    ]),
    ("binaries: {kubelet: {download: {address: \"http://a/kubelet\", sha256: {}}}}", &["url-syntax binaries.kubelet.download.address", "digest-missing binaries.kubelet.download.sha256"]),
    (
        "binaries: {kubelet: {download: {address: \"https://a/b\", sha256: {amd64: 0000000000000000000000000000000000000000000000000000000000000000, x86: 1111111111111111111111111111111111111111111111111111111111111111}}}}",
        &["ambiguous-scalar binaries.kubelet.download.sha256.amd64", "wrong-type binaries.kubelet.download.sha256.x86"],
    ),
    (
        "binaries: {kubelet: {download: {address: \"https://a/b\", sha256: {amd64: a000000000000000000000000000000000000000000000000000000000000000, x86: a111111111111111111111111111111111111111111111111111111111111111}}}}",
        &["placeholder binaries.kubelet.download.address", "architecture binaries.kubelet.download.sha256.x86"],
    ),
    ("runtime: {managed: false, mirrors: {\"https://a\": {endpoints: [a]}}}", &["unused runtime.managed", "registry-syntax runtime.mirrors[\"https://a\"]", "url-syntax runtime.mirrors[\"https://a\"].endpoints[0]"]),
    // Patches.
    ("patches: [{target: etcd, hosts: [cp-2], patch: []}, {target: coredns-deployment, type: json, hosts: [cp-1], patch: {}}]", &[
        "patch-hosts patches[0].hosts", "patch-shape patches[0].patch", "patch-hosts patches[1].hosts", "patch-shape patches[1].patch",
    ]),
    ("patches: [{target: etcd, type: json, patch: [{op: ad}, {op: add, path: a}, {}]}]", &[
        "patch-shape patches[0].patch[0].op", "patch-shape patches[0].patch[1]", "patch-shape patches[0].patch[1].path", "patch-shape patches[0].patch[2]",
    ]),
];

fn problems_of(row: &str) -> (String, Vec<Problem>) {
    let text = if row.starts_with("version") { row.to_owned() } else { format!("{MINIMAL}{row}\n") };
    let problems = match parse(&text) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    (text, problems)
}

#[test]
fn bad_plans_are_refused_with_all_their_problems() {
    let mut wrong = String::new();
    let mut sentences = String::new();
    for (row, expected) in ROWS {
        let (_, problems) = problems_of(row);
        let mut found: Vec<String> = problems.iter().map(|problem| format!("{} {}", problem.code, problem.path)).collect();
        let mut expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
        found.sort();
        expected.sort();
        if found != expected {
            let _ = writeln!(wrong, "{row}\n  expected {expected:?}\n  found    {found:?}");
        }
        for Problem { line, column, message, hint, .. } in problems {
            let _ = writeln!(sentences, "{line}:{column} {message}{}", hint.map(|hint| format!(" | {hint}")).unwrap_or_default());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    insta::assert_snapshot!("sentences", sentences);
}

/// Codes that no text of a plan leads to: a second line of defence behind the schema.
const UNREACHABLE: [&str; 5] = ["unreadable", "no-host", "no-role", "limit-zero", "environment-value"];

#[test]
fn every_code_has_its_row() {
    let known = ROWS.iter().flat_map(|(_, expected)| *expected).filter_map(|line| line.split(' ').next());
    // This one needs many hosts and has a test of its own.
    let known: BTreeSet<&str> = known.chain(["etcd-many"]).collect();
    let mut sources = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/plan"))];
    let mut missing = BTreeSet::new();
    while let Some(path) = sources.pop() {
        if path.is_dir() && !path.ends_with("tests") {
            sources.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && !path.ends_with("tests.rs") && !path.ends_with("local_files.rs") {
            let text = fs::read_to_string(&path).unwrap();
            for opening in [".error(\"", ".warning(\"", ".problem(\""] {
                let codes = text.split(opening).skip(1).filter_map(|rest| rest.split('"').next());
                missing.extend(codes.filter(|code| !known.contains(code) && !UNREACHABLE.contains(code)).map(str::to_owned));
            }
        }
    }
    assert_eq!(missing, BTreeSet::new());
}

#[test]
fn too_many_etcd_members_are_a_warning() {
    let mut text = format!("endpoint: {{localProxy: {{}}}}\n{MINIMAL}");
    for index in 2..10 {
        text.push_str(&format!("  - {{name: cp-{index}, address: 192.0.2.1{index}, roles: [control-plane]}}\n"));
    }
    let (_, warnings) = parse(&text).unwrap();
    assert_eq!(warnings.iter().map(|warning| warning.code).collect::<Vec<_>>(), ["etcd-many"]);
}

#[test]
fn problems_are_shown_with_their_lines() {
    let (text, problems) = problems_of("network:\n  podCidrs: [10.96.0.0/16]\n  sevriceCidrs: []\n  cni: {flanel: {}}\n  dnsDomain: yes");
    insta::assert_snapshot!("shown", report::render(&problems, &text, "plans/example.yaml", false));
    let (text, problems) = problems_of("network:\n  podCidrs: [10.97.0.0/16]\n  serviceCidrs: [10.96.0.0/12]\n  nodeMaskV4: 40");
    insta::assert_snapshot!("shown_with_two_places", report::render(&problems, &text, "plans/example.yaml", false));
}
