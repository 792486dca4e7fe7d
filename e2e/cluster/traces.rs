//! What a process has in its memory, its environment and its files: looked through, by root of the node, for secrets.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Larger files are an error: there is one program, and a few small files.
const LARGEST_FILE: u64 = 256 * 1024 * 1024;
/// So much of the memory is looked through at once.
const CHUNK: usize = 4 * 1024 * 1024;

/// Something that is looked for.
#[derive(Clone)]
pub struct Trace {
    /// What it is.
    pub name: String,
    octets: Vec<u8>,
}

impl Trace {
    /// Octets as they are.
    pub fn plain(name: &str, octets: impl Into<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), octets: octets.into() }
    }

    /// A private key (PKCS#8 in PEM), in each form that one takes: a piece of the text, of the text as the API has it, and of
    /// the DER; the secret numbers as the DER has them and as a processor computes with them, least octet first.
    pub fn of_key(name: &str, pem: &str) -> Vec<Self> {
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64.decode(&body).unwrap();
        let in_api = BASE64.encode(pem);
        let lines: Vec<&str> = pem.lines().collect();
        let mut traces = vec![
            Self::plain(&format!("{name}, PEM"), lines[lines.len() - 3]),
            Self::plain(&format!("{name}, as the API has it"), &in_api[in_api.len() / 2..in_api.len() / 2 + 40]),
        ];
        for (at, number) in secret_numbers(&der).into_iter().enumerate() {
            let least_first: Vec<u8> = number.iter().rev().copied().collect();
            traces.push(Self::plain(&format!("{name}, number {at}"), number));
            traces.push(Self::plain(&format!("{name}, number {at}, least octet first"), least_first));
        }
        traces
    }
}

/// The numbers of a private key that nobody else may know: of RSA the exponent and the primes, of EC the only one. Cut to 32
/// octets from the middle, in which no padding is.
fn secret_numbers(pkcs8: &[u8]) -> Vec<Vec<u8>> {
    const INTEGER: u8 = 0x02;
    const OCTETS: u8 = 0x04;
    let key = elements(elements(pkcs8)[0].1).into_iter().find(|(tag, _)| *tag == OCTETS).unwrap().1;
    let inner = elements(elements(key)[0].1);
    let numbers: Vec<&[u8]> = match inner.iter().filter(|(tag, _)| *tag == INTEGER).count() {
        1 => vec![inner[1].1],
        _ => inner[3..6].iter().map(|(_, number)| *number).collect(),
    };
    let middle = |number: &[u8]| {
        let from = number.len().saturating_sub(32) / 2;
        number[from..(from + 32).min(number.len())].to_vec()
    };
    numbers.into_iter().map(middle).collect()
}

/// The elements of DER, side by side: tag and content.
fn elements(mut der: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let [tag, first, rest @ ..] = der {
        let octets = usize::from(first.saturating_sub(0x80));
        let (length, content) = if *first < 0x80 {
            (usize::from(*first), rest)
        } else {
            (rest[..octets].iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), &rest[octets..])
        };
        found.push((*tag, &content[..length]));
        der = &content[length..];
    }
    found
}

/// The names of those traces that are in some octets.
fn found_in(octets: &[u8], traces: &[Trace], found: &mut BTreeSet<String>) {
    // By their first two octets, because most places begin none.
    let mut begins = vec![false; 1 << 16];
    for trace in traces {
        begins[usize::from(trace.octets[0]) << 8 | usize::from(trace.octets[1])] = true;
    }
    let mut at = 0;
    while at + 1 < octets.len() {
        if begins[usize::from(octets[at]) << 8 | usize::from(octets[at + 1])] {
            let here = traces.iter().filter(|trace| octets[at..].starts_with(&trace.octets));
            found.extend(here.map(|trace| trace.name.clone()));
        }
        at += 1;
    }
}

/// Which traces are in the memory of a process.
pub fn in_memory(pid: u32, traces: &[Trace]) -> BTreeSet<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let overlap = traces.iter().map(|trace| trace.octets.len()).max().unwrap();
    let (mut found, mut read) = (BTreeSet::new(), 0);
    let mut buffer = vec![0; CHUNK];
    for line in maps.lines() {
        let mut words = line.split(' ');
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        // The kernel's own pages are not the process's.
        if !rights.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (mut from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        while from < to {
            let length = usize::try_from(to - from).unwrap().min(CHUNK);
            // What the kernel has taken away since is not there any more.
            let Ok(length) = memory.read_at(&mut buffer[..length], from) else { break };
            if length == 0 {
                break;
            }
            read += length;
            found_in(&buffer[..length], traces, &mut found);
            from += length as u64;
            if from < to && length > overlap {
                from -= overlap as u64;
            }
        }
    }
    assert!(read > 1024 * 1024, "hardly anything was read: {read} octets");
    found
}

/// Which traces are in the environment or on the command line of a process.
pub fn at_its_start(pid: u32, traces: &[Trace]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in ["environ", "cmdline"] {
        found_in(&fs::read(format!("/proc/{pid}/{file}")).unwrap(), traces, &mut found);
    }
    found
}

/// The names of the environment variables of a process.
pub fn environment(pid: u32) -> BTreeSet<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&environment).into_owned();
    text.split('\0').filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_owned()).collect()
}

/// Where something is mounted in the files of a process, `/proc`, `/sys` and `/dev` left out.
pub fn mounts(pid: u32) -> BTreeSet<String> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    points.filter(|point| !is_kernels(Path::new(point))).map(str::to_owned).collect()
}

/// All files that a process sees, by their paths in its view; those of the kernel's file systems left out.
pub fn files(pid: u32) -> BTreeSet<PathBuf> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let (mut found, mut open) = (BTreeSet::new(), vec![PathBuf::from("/")]);
    while let Some(folder) = open.pop() {
        let there = root.join(folder.strip_prefix("/").unwrap());
        for entry in fs::read_dir(&there).unwrap_or_else(|error| panic!("{}: {error}", there.display())) {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if is_kernels(&path) {
                continue;
            }
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                found.insert(path);
            }
        }
    }
    found
}

fn is_kernels(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|folder| path.starts_with(folder))
}

/// The content of a file that a process sees.
pub fn file(pid: u32, path: &Path) -> Vec<u8> {
    let there = PathBuf::from(format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap());
    assert!(fs::metadata(&there).unwrap().len() < LARGEST_FILE, "{}", path.display());
    fs::read(there).unwrap()
}

/// Which traces are in which of the files that a process sees.
pub fn in_files(pid: u32, traces: &[Trace]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files(pid) {
        let mut here = BTreeSet::new();
        found_in(&file(pid, &path), traces, &mut here);
        found.extend(here.into_iter().map(|name| format!("{}: {name}", path.display())));
    }
    found
}

#[test]
fn the_numbers_of_a_key_are_found_whatever_kind_it_is_of() {
    use rcgen::PublicKeyData as _;
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let numbers = secret_numbers(&key.serialize_der());
        assert!(matches!(numbers.len(), 1 | 3), "{}", numbers.len());
        for number in &numbers {
            assert_eq!(number.len(), 32);
            assert!(key.serialize_der().windows(32).any(|window| window == number));
            assert!(!key.subject_public_key_info().windows(32).any(|window| window == number), "it is no secret");
        }
        let traces = Trace::of_key("it", &key.serialize_pem());
        let mut found = BTreeSet::new();
        found_in(key.serialize_pem().as_bytes(), &traces, &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["it, PEM"]);
    }
}
