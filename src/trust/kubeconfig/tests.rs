//! Shape against kubeadm's files, meaning against other spellings.

use super::*;

fn place() -> KubeconfigPlace {
    KubeconfigPlace {
        path: RemotePath::fixed("/etc/kubernetes/admin.conf"),
        server: "https://api.example.test:6443".into(),
        cluster: "kubernetes".into(),
        user: "kubernetes-admin".into(),
    }
}

fn embedded() -> Credentials {
    Credentials::Embedded { certificate: b"certificate".to_vec(), key: Secret::new("key".repeat(100)) }
}

#[test]
fn a_kubeconfig_has_kubeadms_shape() {
    let text = write(&place(), "authority", &embedded());
    let redacted: Vec<String> = text
        .lines()
        .map(|line| {
            line.split_once("-data: ").map_or_else(|| line.to_owned(), |(key, _)| format!("{key}-data: <base64>"))
        })
        .collect();
    let reference = include_str!("../../../tests/reference/kubeadm/v1.36.2/kubeconfig/admin.conf");
    assert_eq!(redacted.join("\n").trim(), reference.trim());
}

#[test]
fn what_is_written_is_read_back() {
    for credentials in [embedded(), Credentials::File(RemotePath::fixed("/var/lib/kubelet/pki/current.pem"))] {
        let found = read(&write(&place(), "authority", &credentials)).unwrap();
        let authority = Some(b"authority".to_vec());
        assert_eq!(found, Kubeconfig { server: place().server, authority, credentials });
    }
}

#[test]
fn the_current_context_counts() {
    let text = "
kind: Config
contexts:
- {name: other, context: {cluster: b, user: u}}
- {name: mine, context: {cluster: a, user: u, namespace: x}}
clusters:
- {name: b, cluster: {server: 'https://b'}}
- {name: a, cluster: {server: 'https://a', certificate-authority: /x}}
users:
- {name: u, user: {token: abc}}
current-context: mine
";
    let found = read(text).unwrap();
    assert_eq!(found, Kubeconfig { server: "https://a".into(), authority: None, credentials: Credentials::Other });
    assert_eq!(read(&text.replace("current-context: mine", "")), Err(KubeconfigError::Missing("context")));
    assert_eq!(read(&text.replace("name: a,", "name: c,")), Err(KubeconfigError::Missing("cluster")));
}

#[test]
fn damage_is_reported_without_quoting_the_file() {
    let text = write(&place(), "authority", &embedded());
    let key = STANDARD.encode("key".repeat(100));
    let damaged = [
        text.replace(&key, &format!("{key}*")),
        text.replace("users:", "users: ["),
        text[..text.len() / 2].to_owned() + "\t: [",
    ];
    for damaged in damaged {
        let message = read(&damaged).unwrap_err().to_string();
        assert!(!message.contains(&key[..12]), "{message}");
    }
}
