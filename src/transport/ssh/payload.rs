//! A step on its way to a host: one tar stream, written while it is read.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use super::super::{Bundle, Payload};

/// The parts of a bundle, owned so that another thread can write them.
pub(super) struct Cargo {
    script: String,
    payloads: Vec<(String, Payload)>,
    timeout: Duration,
}

/// Why a step could not be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// A file of this machine.
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: io::Error },
    /// The stream. The host says more about it.
    #[error("cannot send the step: {0}")]
    Write(#[from] io::Error),
}

impl Cargo {
    pub(super) fn of(bundle: &Bundle) -> Self {
        Self { script: bundle.script.clone(), payloads: bundle.payloads.clone(), timeout: bundle.timeout }
    }

    /// Whether the step brings files of this machine, which may be large.
    pub(super) fn is_large(&self) -> bool {
        self.payloads.iter().any(|(_, payload)| matches!(payload, Payload::File(_)))
    }

    /// Writes everything. `whole` comes last, so that the host can tell a cut stream.
    pub(super) fn write(&self, stream: impl Write) -> Result<(), SendError> {
        let mut archive = tar::Builder::new(io::BufWriter::with_capacity(256 << 10, stream));
        append(&mut archive, "run.sh", self.script.as_bytes())?;
        append(&mut archive, "seconds", format!("{}\n", self.timeout.as_secs().max(1)).as_bytes())?;
        for (name, payload) in &self.payloads {
            match payload {
                Payload::Bytes(bytes) => append(&mut archive, name, bytes.expose())?,
                Payload::File(path) => {
                    let read = |source| SendError::Read { file: path.display().to_string(), source };
                    let mut file = File::open(path).map_err(read)?;
                    let size = file.metadata().map_err(read)?.len();
                    // What is added to the file meanwhile is left out, what is cut off makes the stream
                    // useless; in both cases the host's check of the digest or of `whole` stops the step.
                    archive.append_data(&mut header(size), name, io::Read::take(&mut file, size))?;
                }
            }
        }
        append(&mut archive, "whole", b"")?;
        archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.flush()?;
        Ok(())
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(size);
    header
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64), name, bytes)
}
