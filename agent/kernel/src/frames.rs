//! The frames of the programs, counted as Linux 5.10 does (`check_max_stack_depth` in kernel/bpf/verifier.c): each is rounded up
//! to 32 bytes, and those of any chain of calls add up to 512 at most. Later kernels round less, so that a chain that is too long
//! for the oldest would load wherever else it is tried.

use std::collections::HashMap;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};

use crate::object::OBJECT;

const MOST: usize = 512;
const INSTRUCTION: usize = 8;
const FRAME_POINTER: u8 = 10;

/// A function of the object: how much stack it uses itself, and what it calls.
struct Function {
    name: String,
    frame: usize,
    calls: Vec<Place>,
}

/// Where a function begins: section, byte.
type Place = (SectionIndex, usize);

#[test]
fn no_chain_of_calls_is_too_long_for_the_oldest_kernel() {
    let functions = functions();
    let programs = functions
        .values()
        .filter(|function| crate::links::HOOKS.iter().any(|hook| hook.name == function.name));
    let mut deepest: Vec<(usize, String)> = programs.map(|program| chain(&functions, program)).collect();
    deepest.sort_unstable();
    assert_eq!(deepest.len(), crate::links::HOOKS.len(), "every program is looked at");
    let (bytes, names) = deepest.last().unwrap();
    assert!(*bytes > MOST / 4 && names.contains(" > "), "frames and calls are seen: {bytes} {names}");
    assert!(*bytes <= MOST, "{bytes} bytes: {names}. Put a part of it into a function that is not inlined");
}

/// The longest chain from here on, in bytes, and who is in it.
fn chain(functions: &HashMap<Place, Function>, from: &Function) -> (usize, String) {
    let rest = from.calls.iter().map(|call| chain(functions, &functions[call])).max();
    let own = from.frame.max(1).next_multiple_of(32);
    match rest {
        Some((bytes, names)) => (own + bytes, format!("{} ({}) > {names}", from.name, from.frame)),
        None => (own, format!("{} ({})", from.name, from.frame)),
    }
}

fn functions() -> HashMap<Place, Function> {
    let file = object::File::parse(OBJECT).unwrap();
    let texts = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    let function = |symbol: object::Symbol<'_, '_>| {
        let section = symbol.section_index().unwrap();
        let (from, size) = (length(symbol.address()), length(symbol.size()));
        let code = &file.section_by_index(section).unwrap().data().unwrap()[from..from + size];
        let calls = (0..size).step_by(INSTRUCTION).filter(|at| code[*at] == 0x85 && code[at + 1] >> 4 == 1);
        let calls = calls.map(|at| called(&file, section, from + at)).collect();
        ((section, from), Function { name: symbol.name().unwrap().to_owned(), frame: frame(code), calls })
    };
    texts.map(function).collect()
}

/// The function that the call at `at` leads to: by its relocation, or its distance where it stays in its section.
fn called(file: &object::File<'_>, section: SectionIndex, at: usize) -> Place {
    let section = file.section_by_index(section).unwrap();
    let immediate = i32::from_le_bytes(section.data().unwrap()[at + 4..at + 8].try_into().unwrap());
    let behind = |from: usize, distance: i32| {
        from.checked_add_signed((distance as isize + 1) * INSTRUCTION as isize).unwrap()
    };
    let Some((_, relocation)) = section.relocations().find(|(offset, _)| *offset == at as u64) else {
        return (section.index(), behind(at, immediate));
    };
    let RelocationTarget::Symbol(symbol) = relocation.target() else { panic!("a call to no symbol") };
    let symbol = file.symbol_by_index(symbol).unwrap();
    (symbol.section_index().unwrap(), behind(length(symbol.address()), immediate))
}

fn length(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// The lowest byte below the frame pointer that is named: as the base of a load or a store, or as an address that is made from it.
fn frame(code: &[u8]) -> usize {
    let mut copies = [false; 11];
    let mut lowest = 0;
    for instruction in code.chunks_exact(INSTRUCTION) {
        let (operation, registers) = (instruction[0], instruction[1]);
        let (to, from) = (registers & 0xf, registers >> 4);
        let offset = i32::from(i16::from_le_bytes([instruction[2], instruction[3]]));
        let immediate = i32::from_le_bytes(instruction[4..8].try_into().unwrap());
        match operation & 7 {
            // Loads; stores of a value or a register.
            1 if from == FRAME_POINTER => lowest = lowest.min(offset),
            2 | 3 if to == FRAME_POINTER => lowest = lowest.min(offset),
            7 if operation == 0x07 && copies[usize::from(to)] => lowest = lowest.min(immediate),
            _ => {}
        }
        // What is written to a register; a call leaves a value in the first.
        match operation & 7 {
            0 | 1 | 4 | 7 => copies[usize::from(to)] = operation == 0xbf && from == FRAME_POINTER,
            _ => {}
        }
    }
    lowest.unsigned_abs() as usize
}
