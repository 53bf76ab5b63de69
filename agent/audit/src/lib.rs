//! # Audit: the tamper-evident trail
//!
//! What the agent decided and did, as records that a third party can verify without trusting the host. Metadata only: who
//! (as a keyed hash), what kind of request, which rule, how it ended; never what was said.
//!
//! ```text
//! append ─▶ queue ─▶ committer ── one frame, one fdatasync ──▶ wal/      ─▶ acknowledged: Index
//!                        └─ durable entries ─▶ integrator ──▶ tile/…     every second when dirty, and on close
//!                                                         └──▶ checkpoint  signed, over durable entries only
//! open = recover: checkpoint ─▶ right edge of the tiles ─▶ rest of wal/ ─▶ tiles ─▶ checkpoint
//! ```
//!
//! ## On disk (public, schema 1)
//! ```text
//! checkpoint                      C2SP tlog-checkpoint in a C2SP signed-note, one Ed25519 signature; key name = origin
//! tile/<L>/<N>[.p/<W>]            C2SP tlog-tiles: 256 (or W) SHA-256 hashes of tree level 8L; RFC 6962 leaf and node hashes
//! tile/entries/<N>[.p/<W>]        256 (or W) entries, each behind its length (u16, big-endian)
//! wal/<first, 20 digits>.wal      durable frames; the layout is in `wal.rs`: magic, lengths, CRC-32C, big-endian
//! keys/verifier.pub               the verifier key: `<origin>+<hash>+<base64>`, one line
//! keys/signing.key                0600; the signer key in signed-note's text form
//! keys/pseudonym-<epoch>.key      0600; 32 bytes; the highest epoch is in use
//! tmp/, lock                      unfinished files; the writer's flock
//! ```
//! N is written in groups of three digits, all but the last with an `x` before them. An entry is one record in canonical JSON
//! (RFC 8785) of at most 65,535 bytes with `type`, `v` = 1 and `time`. The leaf hash is over exactly those bytes. A copy of the
//! trail for others is `checkpoint`, `tile/` and `wal/`; never `keys/` but for `verifier.pub`.
//!
//! ## Invariants
//! 1. An acknowledged record is durable: a SIGKILL or power loss after the acknowledgement does not lose it.
//! 2. A checkpoint covers durable entries only; a later one always extends an earlier one. Recovery may extend, never shrink.
//! 3. After one failed write or fsync nothing more is acknowledged or signed: the kernel marks pages clean that it failed to
//!    write, so trying again would lie. A disk that hangs fails appends after [`APPEND_TIMEOUT`].
//! 4. A whole frame behind a damaged one means damage, not an interrupted write: recovery refuses, it never cuts there.
//! 5. Every byte of every signed file is covered by the signature: [`verify`] names the file that was changed. Signatures of
//!    others (witnesses) may stand behind ours in the checkpoint; they are not looked at.
//! 6. Readers need no lock and never disturb the writer. There is one writer.
//!
//! ## What it does not do
//! Who holds root holds the signing key and can rewrite the whole trail; records of the last second are not signed yet,
//! and who can write the directory can cut them off at a commit, change them or add to them unseen, and the next start
//! signs what it finds; a whole directory can be put back to an older state. Against the first and the last, and to keep the
//! second short: keep checkpoints and the verifier key off this host, and verify against them ([`verify_since`]). It does
//! not ship records, and it does not expire them.

mod bell;
mod canonical;
mod checkpoint;
mod commit;
mod disk;
mod error;
mod fields;
mod health;
mod integrate;
mod keys;
mod layout;
mod log;
mod record;
mod recover;
mod snapshot;
mod tree;
mod verify;
mod wal;

#[cfg(test)]
mod faults;

pub use bell::Bell;
pub use error::AuditError;
pub use health::Statistics;
pub use log::{APPEND_TIMEOUT, CLOSE_TIMEOUT, Log, LogSettings};
pub use record::{Index, Pseudonym, RECORD_LIMIT, Record, SCHEMA};
pub use snapshot::{last_record, records};
pub use verify::{KeySource, Verified, verify, verify_since};
