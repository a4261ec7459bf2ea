//! Pairs come and go in a store, and every change of it that is cut off is finished by the next command.

use super::super::{create, open};
use super::*;
use crate::artifact::Secret;

const CA: Authority = Authority::Kubernetes;
const PAIR: ClusterPair = ClusterPair::Authority(CA);
const FOLLOWING: ClusterPair = ClusterPair::NextAuthority(CA);

fn pair(text: &str) -> [NewAuthority; 1] {
    [NewAuthority { authority: CA, certificate: format!("certificate {text}"), key: Secret::new(format!("key {text}").into_bytes()) }]
}

/// A store with the pair `old`. By a recipient, as deriving a key from a passphrase takes a second.
fn store(directory: &Path) -> KeyStore {
    use age::secrecy::ExposeSecret as _;
    let identity = age::x25519::Identity::generate();
    let file = directory.join("identity");
    write(&file, 0o600, identity.to_string().expose_secret().as_bytes()).unwrap();
    let recipients = vec![identity.to_public().to_string()];
    let store = KeyStore { directory: directory.join("store"), recipients, identity_file: Some(file), passphrase_file: None };
    create(&store, &pair("old")).unwrap();
    store
}

/// Certificate and key of the pair that signs, and of the one that follows.
type Seen = [Option<(String, String)>; 2];

/// What the store says: the certificate that signs with its key, and the one that follows with its own.
fn seen(store: &KeyStore) -> Seen {
    let Certificates { current, next } = certificates(store, CA);
    let read = |path: PathBuf, pair: ClusterPair| {
        let key = open(store, &[pair]).unwrap().remove(&pair).unwrap();
        (fs::read_to_string(path).unwrap(), String::from_utf8(key.expose().to_vec()).unwrap())
    };
    [Some(read(current, PAIR)), next.map(|path| read(path, FOLLOWING))]
}

fn of(text: &str) -> Option<(String, String)> {
    Some((format!("certificate {text}"), format!("key {text}")))
}

#[test]
fn a_pair_follows_another_and_takes_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    assert_eq!(seen(&store), [of("old"), None]);
    promote(&store, CA).unwrap();
    assert_eq!(seen(&store), [of("old"), None], "nothing follows it");
    add_next(&store, &pair("new")).unwrap();
    add_next(&store, &pair("newer")).unwrap();
    assert_eq!(seen(&store), [of("old"), of("new")], "what is there stays");
    promote(&store, CA).unwrap();
    promote(&store, CA).unwrap();
    assert_eq!(seen(&store), [of("new"), None]);
    assert_eq!(fs::read_to_string(store.directory.join("ca-old.crt")).unwrap(), "certificate old");
    add_next(&store, &pair("newest")).unwrap();
    drop_next(&store, CA).unwrap();
    drop_next(&store, CA).unwrap();
    assert_eq!(seen(&store), [of("new"), None]);
    let mut files: Vec<String> = fs::read_dir(&store.directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["ca-old.crt", "ca-old.key.age", "ca.crt", "ca.key.age"]);
}

/// The states of the directory between the single renames of a change, made by hand: whatever was cut
/// off there, a certificate is always found with its own key, and each command goes on.
#[test]
fn a_change_that_is_cut_off_is_finished_by_the_next() {
    type Cut = (fn(&Path), Seen);
    let cuts: [Cut; 4] = [
        // add_next wrote the key alone.
        (|at| fs::remove_file(at.join("ca-next.crt")).unwrap(), [of("old"), None]),
        // … or half of a file.
        (|at| fs::write(at.join("ca-next.crt.part"), "certif").unwrap(), [of("old"), of("new")]),
        // promote kept the old ones and moved nothing yet.
        (|at| assert!(fs::copy(at.join("ca.crt"), at.join("ca-old.crt")).is_ok()), [of("old"), of("new")]),
        // promote moved the key and not the certificate.
        (|at| fs::rename(at.join("ca-next.key.age"), at.join("ca.key.age")).unwrap(), [of("new"), None]),
    ];
    for (index, (cut, expected)) in cuts.into_iter().enumerate() {
        for command in ["add", "promote", "drop"] {
            let directory = tempfile::tempdir().unwrap();
            let store = store(directory.path());
            add_next(&store, &pair("new")).unwrap();
            cut(&store.directory);
            assert_eq!(seen(&store), expected, "cut {index}");
            let [current, next] = expected.clone();
            let after = match command {
                "add" => {
                    add_next(&store, &pair("third")).unwrap();
                    [current, next.or(of("third"))]
                }
                "promote" => {
                    promote(&store, CA).unwrap();
                    [next.or(current), None]
                }
                _ => {
                    drop_next(&store, CA).unwrap();
                    [current, None]
                }
            };
            assert_eq!(seen(&store), after, "cut {index}, then {command}");
        }
    }
}

#[test]
fn another_passphrase_closes_no_new_key() {
    let directory = tempfile::tempdir().unwrap();
    let with = |text: &str| {
        let file = directory.path().join(text);
        write(&file, 0o600, text.as_bytes()).unwrap();
        KeyStore { directory: directory.path().join("store"), recipients: Vec::new(), identity_file: None, passphrase_file: Some(file) }
    };
    let (right, mistyped) = (with("correct horse"), with("wrong horse"));
    create(&right, &pair("old")).unwrap();
    assert!(matches!(add_next(&mistyped, &pair("new")), Err(KeyStoreError::Locked { .. })));
    assert_eq!(certificates(&right, CA).next, None);
    add_next(&right, &pair("new")).unwrap();
    assert!(certificates(&right, CA).next.is_some());
}
