//! A whole answer: JSON, or a text.

use super::Dialect;
use super::ProtocolError;
use super::grammar::Grammar;
use super::stream::{OPAQUE_ANSWER, Scanner};
use bailiwick_masking::json::{self, Document, Edits, Kind, Node, quote};
use bailiwick_masking::{Findings, MaskError, Masker};

pub(super) const NUMBERS: &str =
    "the model's answer has tensors of numbers, which cannot be masked: they may be tokens or letters";

/// A whole JSON answer, masked; `None` where nothing of it changes.
pub(super) fn json(
    bytes: &[u8],
    grammar: &'static Grammar,
    masker: &Masker,
    findings: &mut Findings,
) -> Result<Option<Vec<u8>>, ProtocolError> {
    let document = json::parse(bytes).map_err(ProtocolError::of_answer)?;
    let root = document.root();
    let scanner = Scanner::new(grammar, masker.clone());
    if scanner.is_opaque(root) {
        return Err(ProtocolError::answer(OPAQUE_ANSWER));
    }
    let mut edits = Edits::default();
    match grammar.dialect {
        Dialect::OpenAi => spoken(&document, &scanner, findings, &mut edits)?,
        Dialect::Kserve if has_numbers(&document) => return Err(ProtocolError::answer(NUMBERS)),
        Dialect::Responses | Dialect::Anthropic | Dialect::Ollama | Dialect::Tgi | Dialect::Kserve => {
            scanner.silence_within(root, &mut edits);
        }
    }
    if edits.is_empty() {
        return masker.document(&document, findings).map_err(ProtocolError::of_answer);
    }
    masker.json(&edits.apply(bytes), findings).map(Some).map_err(ProtocolError::of_answer)
}

/// A whole answer that is no JSON: one text. In subtitles it is cut into cues, each below a line of times: they are pieces of
/// one text, as segments are.
pub(super) fn text(bytes: &[u8], masker: &Masker, findings: &mut Findings) -> Result<Vec<u8>, ProtocolError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ProtocolError::answer("the model's answer is a text that is not UTF-8"))?;
    let masked = if text.lines().any(is_times) {
        cues(text, masker, findings)
    } else {
        masker.entities().text(text, findings)
    };
    masked.map(String::into_bytes).map_err(ProtocolError::of_answer)
}

/// The times of a cue (WebVTT and `SubRip` alike).
fn is_times(line: &str) -> bool {
    line.contains("-->")
}

/// Subtitles: what is said goes through one channel, a space between its lines; everything else is scanned as it stands.
fn cues(text: &str, masker: &Masker, findings: &mut Findings) -> Result<String, MaskError> {
    let entities = masker.entities();
    let lines: Vec<(&str, &str)> = text
        .split_inclusive('\n')
        .map(|line| line.split_at(line.trim_end_matches(['\r', '\n']).len()))
        .collect();
    let mut said = Vec::with_capacity(lines.len());
    let mut within = false;
    for (line, _) in &lines {
        let empty = line.trim().is_empty();
        said.push(within && !empty && !is_times(line));
        within = !empty && (within || is_times(line));
    }
    let spoken: Vec<&str> =
        lines.iter().zip(&said).filter(|(_, said)| **said).map(|((line, _), _)| *line).collect();
    let mut masked = as_one(&spoken, " ", masker, findings)?.map(Vec::into_iter);
    let mut out = String::with_capacity(text.len());
    for ((line, end), said) in lines.iter().zip(said) {
        let line = match masked.as_mut().filter(|_| said) {
            // An empty line would end the cue.
            Some(masked) => match masked.next().unwrap_or_default().trim() {
                "" => continue,
                line => line.to_owned(),
            },
            None if said => (*line).to_owned(),
            None => entities.text(line, findings)?,
        };
        out.push_str(&line);
        out.push_str(end);
    }
    Ok(out)
}

/// Pieces of one text, masked as the whole of it; `None` where nothing is.
fn as_one(
    pieces: &[&str],
    between: &str,
    masker: &Masker,
    findings: &mut Findings,
) -> Result<Option<Vec<String>>, MaskError> {
    let mut channel = masker.channel();
    let mut masked = Vec::with_capacity(pieces.len());
    for (at, piece) in pieces.iter().enumerate() {
        let mut released = channel.push(piece, findings)?;
        released.push_str(&if at + 1 == pieces.len() {
            channel.finish(findings)?
        } else {
            channel.push(between, findings)?
        });
        masked.push(released);
    }
    Ok((masked.concat() != pieces.join(between)).then_some(masked))
}

/// A transcript in segments: they are pieces of one text, cut where the speaker drew breath. Their words, one by one, spell it
/// out, as do their tokens. Whatever else there is, is silenced as everywhere.
fn spoken(
    document: &Document<'_>,
    scanner: &Scanner,
    findings: &mut Findings,
    edits: &mut Edits,
) -> Result<(), ProtocolError> {
    let root = document.root();
    let Some(segments) = root.get("segments").filter(|_| root.get("text").is_some()) else {
        if root.get("words").is_some() && root.get("text").is_some() {
            spell_nothing(root, edits);
        }
        scanner.silence_within(root, edits);
        return Ok(());
    };
    spell_nothing(root, edits);
    segments.elements().iter().for_each(|segment| spell_nothing(segment, edits));
    let texts: Vec<_> = segments.elements().iter().filter_map(|segment| segment.get("text")).collect();
    let said: Vec<_> = texts.iter().filter_map(|node| document.text(node)).collect();
    if said.len() != texts.len() {
        return Err(ProtocolError::answer("the model's answer has a segment whose text is none"));
    }
    let pieces: Vec<&str> = said.iter().map(|said| &**said).collect();
    let masked = as_one(&pieces, "", &scanner.masker, findings).map_err(ProtocolError::of_answer)?;
    for (node, masked) in texts.iter().zip(masked.into_iter().flatten()) {
        edits.replace(node.span(), quote(&masked));
    }
    Ok(())
}

/// Takes out the words and tokens of a transcript or a segment.
fn spell_nothing(node: &Node<'_>, edits: &mut Edits) {
    for member in node.members() {
        let spells = matches!(&*member.name, "words" | "tokens" | "logprobs");
        if spells && !matches!(member.value.kind, Kind::Null) {
            edits.replace(member.value.span(), "[]");
        }
    }
}

/// Whether there are lists of numbers, be they in a tensor or beside one; but for shapes, and what is taken out anyway.
pub(super) fn has_numbers(document: &Document<'_>) -> bool {
    lists_numbers(document.root())
}

fn lists_numbers(node: &Node<'_>) -> bool {
    let counts = |name: &str| name == "shape" || super::grammar::KSERVE.spelled_out.contains(&name);
    node.members().iter().any(|member| !counts(&member.name) && lists_numbers(&member.value))
        || node.elements().iter().any(|one| matches!(one.kind, Kind::Number) || lists_numbers(one))
}

#[cfg(test)]
mod tests;
