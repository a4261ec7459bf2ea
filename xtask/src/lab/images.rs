//! The container images of the lab, as archives.
//!
//! They carry the names kubeadm uses, so plans, manifests and kubeadm itself
//! find them without a registry. Programs of ours or of Go need nothing below
//! them; the others get the few files they load, cut from a Debian root.

use super::archive::{Image, Layer, add_from_root};
use super::cache::{Cache, build_once, create_directory, key, read_text, write_file};
use super::cgroup::Layout;
use super::command::{bound, command, read, run};
use super::kubernetes::{self, IMAGE_PROGRAMS, architecture};
use super::packages::{image_root, image_root_key};
use crate::error::{Error, Explain, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The source of the small program behind pause, coredns and tool.
const TOOL_SOURCE: [(&str, &str); 2] = [
    ("main.rs", include_str!("../bin/lab-tool/main.rs")),
    ("dns.rs", include_str!("../bin/lab-tool/dns.rs")),
];

/// How images are made: any change here makes new ones, which takes seconds.
const RECIPE: &str = concat!(include_str!("images.rs"), include_str!("archive.rs"));

/// Programs cut from Debian, by image.
const ETCD: &[&str] = &["/usr/bin/etcd", "/usr/bin/etcdctl", "/bin/sh"];
const HAPROXY: &[&str] = &["/usr/sbin/haproxy", "/bin/sh"];
const KEEPALIVED: &[&str] = &["/usr/sbin/keepalived", "/usr/bin/wget", "/bin/sh"];
const KUBE_PROXY: &[&str] = &[
    "/bin/sh",
    "/usr/sbin/conntrack",
    "/usr/sbin/ipset",
    "/usr/sbin/modprobe",
    "/usr/sbin/iptables",
    "/usr/sbin/iptables-save",
    "/usr/sbin/iptables-restore",
    "/usr/sbin/ip6tables",
    "/usr/sbin/ip6tables-save",
    "/usr/sbin/ip6tables-restore",
];

/// Where the images of a version are or would be; none before it is built.
pub fn directory(cache: &Cache, version: &str) -> Result<Option<PathBuf>> {
    let programs = kubernetes::directory(cache, version);
    let Ok(built) = read_text(&programs.join("key")) else {
        return Ok(None);
    };
    let digest = key(&[RECIPE, version, &built, &image_root_key(), &tool_key()]);
    Ok(Some(cache.path("images").join(digest)))
}

/// The images of a Kubernetes version; made when they are not there yet.
pub fn archives(cache: &Cache, version: &str) -> Result<PathBuf> {
    let programs = kubernetes::programs(cache, version)?;
    let root = image_root(cache)?;
    let directory = directory(cache, version)?
        .ok_or_else(|| Error::new(format!("Kubernetes {version} was built, but has no key")))?;
    build_once(
        &directory,
        &format!("the images of Kubernetes {version}"),
        |partial| {
            let tool = build_tool(cache)?;
            let write = |reference: &str, entrypoint: &[&str], layers: &[&[u8]]| {
                Image {
                    reference,
                    entrypoint,
                    layers,
                }
                .write(partial, architecture()?)
                .map(drop)
            };
            for name in IMAGE_PROGRAMS {
                let own = program_layer(&programs.join(name), name)?;
                let reference = format!("k8s.gcr.io/{name}:{version}");
                if name == "kube-proxy" {
                    let below = debian_layer(&root, KUBE_PROXY)?;
                    write(&reference, &[], &[&below, &own])?;
                } else {
                    write(&reference, &[], &[&own])?;
                }
            }
            write(
                "k8s.gcr.io/etcd:3.4.13-0",
                &[],
                &[&debian_layer(&root, ETCD)?],
            )?;
            write(
                "lab.local/haproxy:2.6",
                &[],
                &[&debian_layer(&root, HAPROXY)?],
            )?;
            write(
                "lab.local/keepalived:2.2",
                &[],
                &[&debian_layer(&root, KEEPALIVED)?],
            )?;
            // One layer, three images: the program acts by its first argument.
            let own = program_layer(&tool, "lab-tool")?;
            let [pause, coredns] = tool_references(version);
            write(
                pause,
                &["/usr/local/bin/lab-tool", "pause"],
                &[&own],
            )?;
            write(
                coredns,
                &["/usr/local/bin/lab-tool", "coredns"],
                &[&own],
            )?;
            write("lab.local/tool:1", &["/usr/local/bin/lab-tool"], &[&own])
        },
    )?;
    Ok(directory)
}

/// The names under which Kubernetes of a version looks for pause and CoreDNS.
fn tool_references(version: &str) -> [&'static str; 2] {
    if version.starts_with("v1.20.") {
        ["k8s.gcr.io/pause:3.2", "k8s.gcr.io/coredns:1.7.0"]
    } else {
        [
            "k8s.gcr.io/pause:3.4.1",
            "k8s.gcr.io/coredns/coredns:v1.8.0",
        ]
    }
}

/// Builds our own small program, static, so that it runs in an empty image.
///
/// Called directly: a different target feature would make Cargo build
/// everything again.
fn build_tool(cache: &Cache) -> Result<PathBuf> {
    let directory = cache.path("tool").join(tool_key());
    build_once(
        &directory,
        "the small program of the lab's images",
        |partial| {
            for (name, text) in TOOL_SOURCE {
                write_file(&partial.join(name), text)?;
            }
            let options = [
                "--edition=2024",
                "-Copt-level=2",
                "-Cpanic=abort",
                "-Cstrip=symbols",
                "-Ctarget-feature=+crt-static",
            ];
            let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
            run(command(&compiler, options)
                .arg("-o")
                .arg(partial.join("lab-tool"))
                .arg(partial.join("main.rs")))
        },
    )?;
    Ok(directory.join("lab-tool"))
}

fn tool_key() -> String {
    key(&[TOOL_SOURCE[0].1, TOOL_SOURCE[1].1, RECIPE])
}

fn program_layer(program: &Path, name: &str) -> Result<Vec<u8>> {
    let mut layer = Layer::new()?;
    layer.copy(program, &Path::new("/usr/local/bin").join(name), 0o755)?;
    layer.finish()
}

/// The given programs with every library they load.
fn debian_layer(root: &Path, programs: &[&str]) -> Result<Vec<u8>> {
    let mut layer = Layer::new()?;
    let mut wanted: BTreeSet<PathBuf> = programs.iter().map(PathBuf::from).collect();
    let mut loading = wanted.clone();
    wanted.extend(["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"].map(PathBuf::from));
    if programs.contains(&"/usr/sbin/iptables") {
        let extensions = format!("/usr/lib/{}-linux-gnu/xtables", std::env::consts::ARCH);
        let inside = root.join(extensions.trim_start_matches('/'));
        let entries =
            fs::read_dir(&inside).explain(|| format!("cannot list {}", inside.display()))?;
        let entries = entries.flatten();
        loading.extend(entries.map(|entry| Path::new(&extensions).join(entry.file_name())));
    }
    let mut ldd = command("chroot", [root]);
    ldd.arg("ldd").args(&loading);
    // A static program makes ldd fail; what it says about the others is right.
    let libraries = ldd.output().explain(|| "cannot start `chroot`".into())?;
    wanted.extend(loaded_libraries(&String::from_utf8_lossy(
        &libraries.stdout,
    )));
    wanted.extend(loading);
    for path in &wanted {
        add_from_root(&mut layer, root, path)?;
    }
    layer.directory(Path::new("/usr/local/etc/haproxy"))?;
    layer.finish()
}

fn loaded_libraries(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter(|line| line.starts_with(char::is_whitespace))
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

/// Imports every archive into an empty containerd directory.
///
/// Runs the hosts' own containerd in a throw-away container over their root
/// file system, so the machine needs none.
pub fn import(host_root: &Path, archives: &Path, containerd: &Path) -> Result<()> {
    create_directory(containerd)?;
    let script = "set -e\n\
        containerd --log-level error & server=$!\n\
        until ctr version >/dev/null 2>&1; do sleep 0.1; done\n\
        for archive in /run/archives/*.tar; do\n\
          ctr --namespace k8s.io images import \"$archive\" >/dev/null\n\
        done\n\
        ctr --namespace k8s.io images list -q\n\
        kill $server; wait $server || true\n";
    let mut import = bound("systemd-nspawn", ["--quiet", "--register=no"]);
    if Layout::detect()?.is_manual() {
        import.arg("--keep-unit");
    }
    import
        .args([
            "--settings=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
        ])
        .args([
            "--capability=all",
            "--as-pid2",
            "--volatile=overlay",
            "--private-network",
        ])
        .env("SYSTEMD_NSPAWN_LOCK", "0")
        .args(["--machine=slipway-lab-import", "--tmpfs=/tmp", "--pipe"])
        .arg(format!("--directory={}", host_root.display()))
        .arg(format!(
            "--bind={}:/var/lib/containerd",
            containerd.display()
        ))
        .arg(format!("--bind-ro={}:/run/archives", archives.display()))
        .args(["/bin/sh", "-c", script]);
    read(&mut import).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let text = "/usr/bin/etcd:\n\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/a/libc.so.6 (0x2)\n\
            \t/lib64/ld.so (0x3)\n/bin/sh:\n\tnot a dynamic executable\n";
        let wanted: Vec<PathBuf> = ["/lib/a/libc.so.6", "/lib64/ld.so"]
            .map(PathBuf::from)
            .into();
        assert_eq!(loaded_libraries(text), wanted);
    }
}
