//! What of HTTP/1 (RFC 9112) can be told from a few bytes: where requests and answers begin.

/// Bytes of a frame in which [`Scan::chunk`] finds the marks that begin there.
pub const CHUNK: u32 = 64;

/// Words that [`Scan::chunk`] reads: a chunk's, and those that a mark at its end reaches into.
pub const WINDOW: usize = 10;

/// "HTTP/1." in the lower bytes of a word.
const MARK: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
const MARK_LENGTH: u32 = 7;
const MARK_MASK: u64 = (1 << (8 * MARK_LENGTH)) - 1;

/// A word's lower bytes that are there, `length` of them.
#[inline(always)]
const fn mask(length: u32) -> u64 {
    if length >= 8 { u64::MAX } else { (1 << (8 * length)) - 1 }
}

/// Whether `length` bytes, the first eight of them in `head`, begin with a method and a space. Where there are fewer:
/// whether a method may begin with them, if `or_part` says so. CONNECT is none, because what follows it is no HTTP.
#[inline(always)]
pub(super) fn begins_request(head: u64, length: u32, or_part: bool) -> bool {
    let is = |method: &[u8; 8], of: u32| {
        let of = if length < of && or_part { length } else { of };
        length >= of && (head ^ u64::from_le_bytes(*method)) & mask(of) == 0
    };
    is(b"GET     ", 4)
        || is(b"POST    ", 5)
        || is(b"PUT     ", 4)
        || is(b"HEAD    ", 5)
        || is(b"DELETE  ", 7)
        || is(b"OPTIONS ", 8)
        || is(b"PATCH   ", 6)
        || is(b"TRACE   ", 6)
}

/// Whether `length` bytes, the first eight of them in `head`, begin as an answer does, as far as they go.
#[inline(always)]
pub(super) fn may_begin_answer(head: u64, length: u32) -> bool {
    let of = if length < MARK_LENGTH { length } else { MARK_LENGTH };
    (head ^ MARK) & mask(of) == 0
}

/// Whether they begin with a whole mark.
#[inline(always)]
pub(super) fn begins_answer(head: u64, length: u32) -> bool {
    length >= MARK_LENGTH && may_begin_answer(head, length)
}

/// Whether bytes that begin with `head` go on with a mark of which `carry` bytes are there.
#[inline(always)]
pub(super) fn continues_mark(head: u64, length: u32, carry: u32) -> bool {
    let rest = MARK_LENGTH - if carry < MARK_LENGTH { carry } else { MARK_LENGTH };
    carry != 0 && length >= rest && (head ^ MARK >> (8 * carry)) & mask(rest) == 0
}

/// With how many bytes of a mark `length` bytes end, the first eight of them in `head` and the last, at most eight, in
/// `tail`, behind others that ended with `carry` bytes of one.
#[inline(always)]
pub(super) fn part_of_mark(head: u64, tail: u64, length: u32, carry: u32) -> u32 {
    if carry + length < MARK_LENGTH && carry != 0 && (head ^ MARK >> (8 * carry)) & mask(length) == 0 {
        return carry + length;
    }
    let length = if length < 8 { length } else { 8 };
    let mut part = MARK_LENGTH - 1;
    while part > 0 {
        if length >= part && (tail >> (8 * (length - part)) ^ MARK) & mask(part) == 0 {
            return part;
        }
        part -= 1;
    }
    0
}

/// What begins with the four bytes behind a mark: the rest of the version, a space, and the class of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Not that of an answer.
    None,
    /// An answer is still to come.
    Interim,
    /// The connection is another protocol's from here on.
    Switching,
    /// An answer, with the hundreds of its status; 0 where that is not there.
    Final(u8),
}

/// The status in an answer's bytes from the eighth (counted from 0) on, which are zero where there are none.
#[inline(always)]
pub(super) fn status(behind: u64) -> Status {
    let [space, hundreds, tens, ones, ..] = behind.to_le_bytes();
    if space == 0 || hundreds == 0 {
        Status::Final(0)
    } else if space != b' ' || !(b'1'..=b'5').contains(&hundreds) {
        Status::None
    } else if hundreds != b'1' {
        Status::Final(hundreds - b'0')
    } else if tens == b'0' && ones == b'1' {
        Status::Switching
    } else {
        Status::Interim
    }
}

/// What a search found, in one word: from the top 8 bits of answers of status 500 to 599, 8 of 400 to 499, 8 of 300 to
/// 399, 8 of 200 to 299, each held to 255, 1 of whether the last one switches protocols, and 16 of requests, or of answers
/// that are not interim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found(pub u64);

impl Found {
    const SWITCHES: u64 = 1 << 16;
    const MOST: u32 = 0xffff;

    #[inline(always)]
    pub(super) const fn count(self) -> u32 {
        self.0 as u32 & Self::MOST
    }

    #[inline(always)]
    pub(super) const fn switches(self) -> bool {
        self.0 & Self::SWITCHES != 0
    }

    /// Answers of this class, 2 to 5.
    #[inline(always)]
    pub(super) const fn of_class(self, class: u32) -> u32 {
        (self.0 >> (16 + 8 * class)) as u32 & 0xff
    }

    /// The same and a request, or an answer of an unknown class.
    #[inline(always)]
    pub(super) const fn and_one(self) -> Found {
        if self.count() < Self::MOST { Found(self.0 + 1) } else { self }
    }

    /// The same and what an answer's status says.
    #[inline(always)]
    pub(super) const fn and(self, status: Status) -> Found {
        match status {
            Status::None | Status::Interim => self,
            Status::Switching => Found(self.and_one().0 | Self::SWITCHES),
            Status::Final(class) if class < 2 || self.of_class(class as u32) == 0xff => self.and_one(),
            Status::Final(class) => Found(self.and_one().0 + (1 << (16 + 8 * class as u32))),
        }
    }
}

/// A search of a segment for the marks of requests, which end their lines, or of answers, which begin with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Scan {
    /// What was found.
    pub found: Found,
    /// How many answers are looked for; 0: requests are, and all of them.
    answers: u64,
}

impl Scan {
    /// A search for as many answers, or, where it is 0, for requests.
    #[inline(always)]
    pub const fn new(answers: u32) -> Scan {
        Scan { found: Found(0), answers: answers as u64 }
    }

    /// Whether there is nothing more to look for.
    #[inline(always)]
    const fn is_done(&self) -> bool {
        self.answers != 0 && (self.found.count() as u64 >= self.answers || self.found.switches())
    }

    /// Searches the next bytes of a segment: for marks that begin in the first [`CHUNK`] of them. The first byte is the
    /// lowest of the first word, and behind the segment's end are zeros. Returns whether the search is done.
    #[inline(always)]
    pub fn chunk(&mut self, bytes: &[u64; WINDOW]) -> bool {
        const EACH: u64 = u64::MAX / 0xff;
        let mut word = 0;
        while word < CHUNK as usize / 8 {
            // The upper bit of each byte that is an H.
            let other = bytes[word] ^ (EACH * b'H' as u64);
            if other.wrapping_sub(EACH) & !other & EACH << 7 != 0 {
                let mut byte = 0;
                while byte < 8 {
                    let shifted = bytes[word] >> (8 * byte) | upper(bytes[word + 1], byte);
                    if (shifted ^ MARK) & MARK_MASK == 0 {
                        self.mark(bytes[word + 1] >> (8 * byte) | upper(bytes[word + 2], byte));
                        if self.is_done() {
                            return true;
                        }
                    }
                    byte += 1;
                }
            }
            word += 1;
        }
        false
    }

    /// Takes note of a mark, of which `behind` are the bytes from the eighth (counted from 0) on.
    #[inline(always)]
    fn mark(&mut self, behind: u64) {
        if self.answers != 0 {
            self.found = self.found.and(status(behind));
        } else if matches!(behind as u8, b'\r' | b'\n' | 0) {
            self.found = self.found.and_one();
        }
    }
}

/// What of a word comes into the bytes that begin `byte` bytes into the word before it.
#[inline(always)]
const fn upper(word: u64, byte: u32) -> u64 {
    word << 1 << (63 - 8 * byte)
}
