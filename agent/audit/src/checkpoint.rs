//! The signed head: a C2SP tlog-checkpoint in a C2SP signed-note, one Ed25519 signature, key name = origin.

use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash};

/// A checkpoint as parsed; whether its signature holds is another question ([`Signed::is_signed_by`]).
#[derive(Debug)]
pub(crate) struct Signed {
    note: Note,
    head: Checkpoint,
}

impl Signed {
    /// `None` unless the bytes are a note around a checkpoint, in the one form that [`sign`] writes.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let note = Note::from_bytes(bytes).ok()?;
        let head = Checkpoint::from_bytes(note.text()).ok()?;
        (note.to_bytes() == bytes).then_some(Self { note, head })
    }

    pub(crate) fn is_signed_by(&self, verifier: &StandardVerifier) -> bool {
        // A key that signs for another origin's checkpoint proves nothing about this one.
        self.head.origin() == signed_note::Verifier::name(verifier)
            && self.note.verify(&VerifierList::new(vec![Box::new(verifier.clone())])).is_ok()
    }

    pub(crate) fn origin(&self) -> &str {
        self.head.origin()
    }

    pub(crate) fn size(&self) -> u64 {
        self.head.size()
    }

    pub(crate) fn root(&self) -> Hash {
        *self.head.hash()
    }
}

/// The bytes of the file `checkpoint`; `None` when the crypto library refuses, which it does for no input we make.
pub(crate) fn sign(signer: &StandardSigner, size: u64, root: Hash) -> Option<Vec<u8>> {
    let head = Checkpoint::new(signed_note::Signer::name(signer), size, root, "").ok()?;
    let mut note = Note::new(&head.to_bytes(), &[]).ok()?;
    note.add_sigs(&[signer]).ok()?;
    Some(note.to_bytes())
}
