//! Draws bootstrap tokens: what `kubeadm join` authenticates with. slipway itself never needs one.

use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;

use crate::artifact::Secret;
use crate::kubernetes::objects::BootstrapToken;

/// kubeadm's default life of a token.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The token a cluster is made with. Its public half follows from the cluster's name, so that two
/// plannings of one bootstrap speak of the same object; its secret half is drawn.
#[must_use]
pub fn first(cluster: &str, now: Timestamp) -> BootstrapToken {
    let digest = crate::names::Digest::of(cluster).to_string();
    token(digest[..6].to_owned(), now, LIFE)
}

/// A new token with this life.
#[must_use]
pub fn draw(now: Timestamp, life: Duration) -> BootstrapToken {
    token(letters(6), now, life)
}

fn token(id: String, now: Timestamp, life: Duration) -> BootstrapToken {
    let expiration = Timestamp::from_second((now + life).as_second()).unwrap_or(now);
    BootstrapToken { id, secret: Secret::new(letters(16).into_bytes()), expiration: expiration.to_string() }
}

/// Letters and digits of which each is drawn from 32.
fn letters(count: usize) -> String {
    let mut bytes = vec![0; count];
    rand::fill(&mut bytes).expect("the system has randomness");
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}
