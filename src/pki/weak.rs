//! RSA keys that are well formed and no secret: faults of generators that the public half alone shows.
//!
//! Not looked for: the keys of Debian's generator of 2006 to 2008, of which lists of half a million exist, and primes shared
//! between phones, which needs all their moduli at once. EC keys show nothing of the kind.

use rsa::BigUint;

use super::{KeyRejected, PublicKey};

/// Odd divisors tried, one less than this the largest. A sound modulus has none below 2^255.
const SMALL: u32 = 4096;
/// Steps of Fermat's method. Primes drawn at random are found after 2^240 steps and more, so a hundred do for those that
/// were searched for one after the other.
const FERMAT_STEPS: usize = 100;
/// The primes of which every modulus made by the faulty library is a power of 65537: those of its smallest keys.
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

impl PublicKey {
    /// Whether the key is free of the faults that are looked for. Takes a few milliseconds for RSA 4096, nothing for EC.
    ///
    /// # Errors
    /// [`KeyRejected::SmallFactor`], [`KeyRejected::Roca`] or [`KeyRejected::ClosePrimes`].
    pub fn check_strength(&self) -> Result<(), KeyRejected> {
        match self.rsa_numbers() {
            Some((modulus, _)) => check(&modulus),
            None => Ok(()),
        }
    }
}

fn check(modulus: &[u8]) -> Result<(), KeyRejected> {
    if let Some(factor) = (3..SMALL).step_by(2).find(|divisor| remainder(modulus, *divisor) == 0) {
        return Err(KeyRejected::SmallFactor { factor });
    }
    if ROCA_PRIMES.iter().all(|prime| is_power_of_65537(remainder(modulus, *prime), *prime)) {
        return Err(KeyRejected::Roca);
    }
    if has_close_primes(&BigUint::from_bytes_be(modulus)) {
        return Err(KeyRejected::ClosePrimes);
    }
    Ok(())
}

/// `divisor` is below 2^24.
fn remainder(number: &[u8], divisor: u32) -> u32 {
    number.iter().fold(0, |rest, octet| ((rest << 8) | u32::from(*octet)) % divisor)
}

/// The mark of CVE-2017-15361. A random number passes all of [`ROCA_PRIMES`] once in 2^27.
fn is_power_of_65537(number: u32, prime: u32) -> bool {
    let mut power = 1;
    for _ in 1..prime {
        if power == number {
            return true;
        }
        power = power * (65537 % prime) % prime;
    }
    false
}

/// Looks for `n = a² - b²` from `a = √n` upwards.
fn has_close_primes(modulus: &BigUint) -> bool {
    let one = BigUint::from(1_u8);
    let mut a = modulus.sqrt();
    if &a * &a == *modulus {
        return true;
    }
    a += &one;
    let mut rest = &a * &a - modulus;
    for _ in 0..FERMAT_STEPS {
        // A square ends in one of 12 of 64 ways; roots are dear.
        if is_square_modulo_64(&rest) {
            let root = rest.sqrt();
            if &root * &root == rest {
                return true;
            }
        }
        rest += &a + &a + &one;
        a += &one;
    }
    false
}

fn is_square_modulo_64(number: &BigUint) -> bool {
    let last = number.to_bytes_le().first().map_or(0, |octet| u32::from(octet % 64));
    (0..64).any(|root: u32| root * root % 64 == last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::hex;

    fn number(text: &str) -> BigUint {
        BigUint::parse_bytes(text.as_bytes(), 10).unwrap()
    }

    /// The first two primes after 10^77.
    const NEAR: [&str; 2] = [
        "100000000000000000000000000000000000000000000000000000000000000000000000000021",
        "100000000000000000000000000000000000000000000000000000000000000000000000000151",
    ];

    #[test]
    fn a_product_of_neighbouring_numbers_is_told_from_one_of_distant_ones() {
        let [p, q] = NEAR.map(number);
        assert!(has_close_primes(&(&p * &q)));
        assert!(has_close_primes(&(&p * &p)));
        assert!(!has_close_primes(&(&p * (&q + &q + number("1")))));
    }

    #[test]
    fn a_small_factor_is_named() {
        let modulus = number(NEAR[0]) * number("4093");
        assert_eq!(check(&modulus.to_bytes_be()), Err(KeyRejected::SmallFactor { factor: 4093 }));
    }

    #[test]
    fn a_modulus_of_the_faulty_generator_is_known_by_its_remainders() {
        // Its primes are k·M + (65537^a mod M), M the product of the primes up to 167; so is their product.
        let primorial = ROCA_PRIMES.iter().fold(BigUint::from(2_u8), |product, prime| product * *prime);
        let prime = |k: u64, a: u32| {
            let mut power = number("1");
            for _ in 0..a {
                power = power * number("65537") % &primorial;
            }
            &primorial * k + power
        };
        let modulus = prime(8_589_934_602, 1000) * prime(8_589_934_600, 777);
        assert_eq!(check(&modulus.to_bytes_be()), Err(KeyRejected::Roca));
    }

    #[test]
    fn sound_keys_of_every_size_are_free_of_these_faults() {
        for bits in [512, 1024] {
            let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).unwrap();
            let modulus = rsa::traits::PublicKeyParts::n(&key).to_bytes_be();
            assert_eq!(check(&modulus), Ok(()), "{}", hex(&modulus));
        }
    }
}
