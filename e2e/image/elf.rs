//! Whether a program needs nothing but the kernel, by its ELF header and program headers (`elf(5)`), 64 bit, little-endian.

/// `e_phoff`: where the program headers begin.
const HEADERS_AT: usize = 0x20;
/// `e_phentsize` and `e_phnum`: their size and number.
const HEADER_SIZE: usize = 0x36;
const HEADER_COUNT: usize = 0x38;
/// `e_shnum`: the number of section headers.
const SECTIONS_AT: usize = 0x28;
const SECTION_SIZE: usize = 0x3a;
const SECTION_COUNT: usize = 0x3c;
/// `PT_DYNAMIC`: what a dynamic linker is told. A static program that may lie anywhere has one too.
const DYNAMIC: u64 = 2;
/// `PT_INTERP`: which dynamic linker is needed.
const INTERPRETER: u64 = 3;
/// `PT_GNU_STACK`, and the flag of what may be executed.
const STACK: u64 = 0x6474_e551;
const EXECUTABLE: u64 = 1;
/// `DT_NEEDED`: the name of a library.
const NEEDED: u64 = 1;
/// `SHT_SYMTAB`: names of functions, which stripping takes away.
const SYMBOLS: u64 = 2;

/// Whatever keeps these octets from being a static, stripped program.
#[must_use]
pub fn program_faults(program: &[u8]) -> Vec<String> {
    look(program).unwrap_or_else(|| vec!["its program is no whole ELF file of 64 bit".to_owned()])
}

fn look(program: &[u8]) -> Option<Vec<String>> {
    let mut faults = Vec::new();
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let mut stack = None;
    for header in table(program, HEADERS_AT, HEADER_SIZE, HEADER_COUNT)? {
        match number(header, 0, 4)? {
            INTERPRETER => faults.push("its program needs a dynamic linker".to_owned()),
            DYNAMIC => {
                let (from, size) = (index(header, 8, 8)?, index(header, 32, 8)?);
                let entries = program.get(from..from.checked_add(size)?)?;
                if entries.chunks_exact(16).any(|entry| number(entry, 0, 8) == Some(NEEDED)) {
                    faults.push("its program needs a library".to_owned());
                }
            }
            STACK => stack = Some(number(header, 4, 4)?),
            _ => {}
        }
    }
    if stack.is_none_or(|flags| flags & EXECUTABLE != 0) {
        faults.push("the stack of its program may be executed".to_owned());
    }
    let mut sections = table(program, SECTIONS_AT, SECTION_SIZE, SECTION_COUNT)?.into_iter();
    if sections.any(|section| number(section, 4, 4) == Some(SYMBOLS)) {
        faults.push("its program has symbols that nobody needs there".to_owned());
    }
    Some(faults)
}

/// The entries of a table, by the places in the header where its offset, the size of an entry and their number stand.
fn table(program: &[u8], at: usize, size: usize, count: usize) -> Option<Vec<&[u8]>> {
    let (at, size, count) = (index(program, at, 8)?, index(program, size, 2)?, index(program, count, 2)?);
    let entries = program.get(at..at.checked_add(size.checked_mul(count)?)?)?;
    Some(if size == 0 { Vec::new() } else { entries.chunks_exact(size).collect() })
}

fn index(octets: &[u8], at: usize, length: usize) -> Option<usize> {
    usize::try_from(number(octets, at, length)?).ok()
}

fn number(octets: &[u8], at: usize, length: usize) -> Option<u64> {
    Some(octets.get(at..at + length)?.iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet)))
}
