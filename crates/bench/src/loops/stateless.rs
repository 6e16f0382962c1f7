//! q0, q1, q2, q14, q21, q22: each row by itself. Columns that stay as they are are handed on, not copied, as an
//! engine over shared columns does too.

use super::BidBatch;
use super::out::{Out, TextOut, text_code};
use arrow::array::RecordBatch;
use memchr::{memchr, memmem};

pub fn q0(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    for batch in batches {
        let b = BidBatch::of(&batch);
        out.emit(&batch, batch.num_rows(), |i| {
            [b.auction[i] as u64, b.bidder[i] as u64, b.price[i] as u64, b.time[i] as u64, text_code(b.extra.get(i))]
        });
    }
}

/// `0.908 * price` is a DECIMAL(23, 3), in 128 bits.
pub fn q1(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut price: Vec<i128> = Vec::new();
    for batch in batches {
        let b = BidBatch::of(&batch);
        price.clear();
        price.extend(b.price.iter().map(|p| i128::from(*p) * 908));
        out.emit(&(&batch, &price), price.len(), |i| {
            [b.auction[i] as u64, b.bidder[i] as u64, price[i] as u64, b.time[i] as u64, text_code(b.extra.get(i))]
        });
    }
}

pub fn q2(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let (mut auction, mut price) = (Vec::new(), Vec::new());
    for batch in batches {
        let b = BidBatch::of(&batch);
        auction.clear();
        price.clear();
        for (a, p) in b.auction.iter().zip(b.price) {
            if (*a as u64).is_multiple_of(123) {
                auction.push(*a);
                price.push(*p);
            }
        }
        out.emit(&(&auction, &price), auction.len(), |i| [auction[i] as u64, price[i] as u64]);
    }
}

/// Bids of a middling price, with the time of day and the number of `c` in the padding.
pub fn q14(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let (mut auction, mut bidder, mut time, mut letters) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut price: Vec<i128> = Vec::new();
    let (mut kind, mut extra) = (TextOut::default(), TextOut::default());
    for batch in batches {
        let b = BidBatch::of(&batch);
        [&mut auction, &mut bidder, &mut time, &mut letters].into_iter().for_each(Vec::clear);
        price.clear();
        kind.clear();
        extra.clear();
        for i in 0..b.price.len() {
            let thousandths = b.price[i] * 908;
            if thousandths > 1_000_000_000 && thousandths < 50_000_000_000 {
                auction.push(b.auction[i]);
                bidder.push(b.bidder[i]);
                time.push(b.time[i]);
                price.push(i128::from(thousandths));
                kind.push(match b.time[i].rem_euclid(86_400_000) / 3_600_000 {
                    8..=18 => b"dayTime",
                    0..=6 | 20.. => b"nightTime",
                    _ => b"otherTime",
                });
                let text = b.extra.get(i);
                extra.push(text);
                letters.push(text.iter().map(|c| u8::from(*c == b'c')).sum::<u8>() as i64);
            }
        }
        out.emit(&(&auction, &bidder, &price, &kind, &time, &extra, &letters), price.len(), |i| {
            let numbers = [auction[i], bidder[i], price[i] as i64, time[i], letters[i]].map(|v| v as u64);
            let [auction, bidder, price, time, letters] = numbers;
            [auction, bidder, price, kind.code(i), time, extra.code(i), letters]
        });
    }
}

/// Bids with the number of their channel: by name for the four hot ones, else out of the url.
pub fn q21(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let (mut auction, mut bidder, mut price) = (Vec::new(), Vec::new(), Vec::new());
    let (mut channel, mut id) = (TextOut::default(), TextOut::default());
    let parameter = memmem::Finder::new("channel_id=");
    for batch in batches {
        let b = BidBatch::of(&batch);
        [&mut auction, &mut bidder, &mut price].into_iter().for_each(Vec::clear);
        channel.clear();
        id.clear();
        for i in 0..b.auction.len() {
            let name = b.channel.get(i);
            let found: Option<&[u8]> = match name.len() {
                5 if name.eq_ignore_ascii_case(b"apple") => Some(b"0"),
                6 if name.eq_ignore_ascii_case(b"google") => Some(b"1"),
                8 if name.eq_ignore_ascii_case(b"facebook") => Some(b"2"),
                5 if name.eq_ignore_ascii_case(b"baidu") => Some(b"3"),
                _ => {
                    let url = b.url.get(i);
                    let at = parameter.find_iter(url).find(|at| *at == 0 || url[at - 1] == b'&');
                    at.map(|at| &url[at + 11..]).map(|v| v.split(|c| *c == b'&').next().unwrap_or(v))
                }
            };
            if let Some(found) = found {
                auction.push(b.auction[i]);
                bidder.push(b.bidder[i]);
                price.push(b.price[i]);
                channel.push(name);
                id.push(found);
            }
        }
        out.emit(&(&auction, &bidder, &price, &channel, &id), auction.len(), |i| {
            [auction[i] as u64, bidder[i] as u64, price[i] as u64, channel.code(i), id.code(i)]
        });
    }
}

/// The three folders of the url.
pub fn q22(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut folders: [TextOut; 3] = Default::default();
    for batch in batches {
        let b = BidBatch::of(&batch);
        folders.iter_mut().for_each(TextOut::clear);
        for i in 0..b.auction.len() {
            let url = b.url.get(i);
            // Behind `https://` comes the host, then the folders.
            let mut from = 8 + memchr(b'/', &url[8..]).unwrap_or(url.len() - 9) + 1;
            for folder in &mut folders {
                let to = from + memchr(b'/', &url[from..]).unwrap_or(url.len() - from);
                folder.push_short(url, from, to);
                from = to + 1;
            }
        }
        out.emit(&(&batch, &folders), b.auction.len(), |i| {
            let [x, y, z] = [0, 1, 2].map(|f| folders[f].code(i));
            [b.auction[i] as u64, b.bidder[i] as u64, b.price[i] as u64, text_code(b.channel.get(i)), x, y, z]
        });
    }
}
