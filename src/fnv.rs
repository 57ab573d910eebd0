//! A hash that is the same at every node and in every version. It is no secret-keeper: inputs can be made to
//! collide.

/// FNV-1a of 32 bits.
pub fn fnv1a(text: &str) -> u32 {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published vectors (draft-eastlake-fnv, appendix C).
    #[test]
    fn it_is_fnv1a() {
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }
}
