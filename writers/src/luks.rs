//! Encrypted images: the key in a LUKS header of version 1, and the data that it is for, as QEMU makes them
//! by default (AES-256 in XTS mode, sectors counted from the start of the file, SHA-256).

use aes::Aes256;
use aes::cipher::KeyInit as _;
use pbkdf2::pbkdf2_hmac;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::disk::SECTOR;
use sha2::{Digest as _, Sha256};
use xts_mode::{Xts128, get_tweak_default};

/// What the header begins with: magic, version, and the names of cipher, mode and hash (LUKS on-disk
/// format, "The partition header").
const BEGINS: [(u64, &[u8]); 4] = [
    (0, b"LUKS\xba\xbe\x00\x01"),
    (8, b"aes\0"),
    (40, b"xts-plain64\0"),
    (72, b"sha256\0"),
];
/// Places of numbers in it.
const KEY_BYTES: u64 = 108;
const DIGEST: u64 = 112;
const DIGEST_SALT: u64 = 132;
const DIGEST_ROUNDS: u64 = 164;
const SLOTS: u64 = 208;
/// Bytes of a slot and how many there are; places in one.
const SLOT: u64 = 48;
const SLOT_COUNT: u64 = 8;
const SLOT_ROUNDS: u64 = 4;
const SLOT_SALT: u64 = 8;
const SLOT_MATERIAL: u64 = 40;
const SLOT_STRIPES: u64 = 44;
/// What a slot that is in use begins with.
const IN_USE: u64 = 0x00ac_71f3;
const DIGEST_BYTES: usize = 20;
const SALT_BYTES: usize = 32;
/// Bytes of the key: one half for the data, one for the tweaks.
const XTS_BYTES: usize = 64;

/// The key to an image's data.
#[derive(Clone, Debug)]
pub(crate) struct Key([u8; XTS_BYTES]);

impl Key {
    /// That of an image whose LUKS header is at this offset; why not, where there is none for these words.
    pub(crate) fn find(image: &SparseBytes, header: u64, words: &str) -> Result<Self, String> {
        let begins = |(at, text): (u64, &[u8])| image.bytes(header + at, text.len()) == text;
        let has_size = image.number(header + KEY_BYTES, 4) == XTS_BYTES as u64;
        if !BEGINS.into_iter().all(begins) || !has_size {
            return Err("only LUKS 1 with aes-256-xts-plain64 and sha256 is read".to_owned());
        }
        let slots = (0..SLOT_COUNT).map(|slot| header + SLOTS + slot * SLOT);
        let mut used = slots.filter(|&slot| image.number(slot, 4) == IN_USE);
        let key = used.find_map(|slot| {
            let key = in_slot(image, header, slot, words);
            key.is_of(image, header).then_some(key)
        });
        key.ok_or_else(|| "it has another passphrase".to_owned())
    }

    /// Whether the header has its digest.
    fn is_of(&self, image: &SparseBytes, header: u64) -> bool {
        let salt = image.bytes(header + DIGEST_SALT, SALT_BYTES);
        let rounds = image.number(header + DIGEST_ROUNDS, 4) as u32;
        let mut digest = [0; DIGEST_BYTES];
        pbkdf2_hmac::<Sha256>(&self.0, &salt, rounds, &mut digest);
        image.bytes(header + DIGEST, DIGEST_BYTES) == digest
    }

    /// Decrypts whole sectors, of which the first has this number.
    pub(crate) fn decrypt(&self, bytes: &mut [u8], first: u64) {
        let (data, tweak) = self.0.split_at(XTS_BYTES / 2);
        let cipher = |key| Aes256::new_from_slice(key).expect("a half is of AES-256's size");
        let xts = Xts128::new(cipher(data), cipher(tweak));
        xts.decrypt_area(bytes, SECTOR as usize, first.into(), get_tweak_default);
    }
}

/// What these words find in a slot.
fn in_slot(image: &SparseBytes, header: u64, slot: u64, words: &str) -> Key {
    let salt = image.bytes(slot + SLOT_SALT, SALT_BYTES);
    let rounds = image.number(slot + SLOT_ROUNDS, 4) as u32;
    let mut key = [0; XTS_BYTES];
    pbkdf2_hmac::<Sha256>(words.as_bytes(), &salt, rounds, &mut key);
    let at = header + image.number(slot + SLOT_MATERIAL, 4) * SECTOR;
    let stripes = image.number(slot + SLOT_STRIPES, 4) as usize;
    let mut material = image.bytes(at, (stripes * XTS_BYTES).next_multiple_of(SECTOR as usize));
    Key(key).decrypt(&mut material, 0);
    Key(merge(&material[..stripes * XTS_BYTES]))
}

/// Puts together what is in stripes (LUKS on-disk format, "Anti-forensic information splitting").
fn merge(material: &[u8]) -> [u8; XTS_BYTES] {
    let mut key = [0; XTS_BYTES];
    for (number, stripe) in material.chunks(XTS_BYTES).enumerate() {
        if number > 0 {
            key = diffuse(key);
        }
        key.iter_mut()
            .zip(stripe)
            .for_each(|(key, byte)| *key ^= byte);
    }
    key
}

fn diffuse(key: [u8; XTS_BYTES]) -> [u8; XTS_BYTES] {
    let mut diffused = [0; XTS_BYTES];
    let parts = key.chunks(Sha256::output_size());
    for ((number, part), out) in (0_u32..)
        .zip(parts)
        .zip(diffused.chunks_mut(Sha256::output_size()))
    {
        let hash = Sha256::new()
            .chain_update(number.to_be_bytes())
            .chain_update(part);
        out.copy_from_slice(&hash.finalize());
    }
    diffused
}
