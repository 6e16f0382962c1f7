//! Joins that follow each other on one key.

use super::{check, plan};
use millstream_dataflow::graph::NodeKind;

#[test]
fn joins_on_one_key_are_one() {
    check(
        "SELECT b.price, a.seller, p.name FROM bid b JOIN auction a ON b.auction = a.id JOIN person p ON a.id = p.id",
        "
Sink(result)
└─ Calc(price, seller, name)
   └─ MultiJoin(auction: INNER id, INNER id)
      ├─ hash(auction) ─ Calc(auction, price)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      ├─ hash(id) ─ Calc(id, seller)
      │  └─ Source(auction)
      │        reads id, seller, ts
      │        watermark ts - 4000 ms
      └─ hash(id) ─ Calc(id, name)
         └─ Source(person)
               reads id, name, ts
               watermark ts - 0 ms",
    );
    check(
        "SELECT b.price, a.seller, p.name FROM bid b LEFT JOIN auction a ON b.auction = a.id JOIN person p ON p.id = b.auction",
        "
Sink(result)
└─ Calc(price, seller, name)
      │ changes +I -U +U -D
   └─ MultiJoin(auction: LEFT id, INNER id)
         │ changes +I -U +U -D
      ├─ hash(auction) ─ Calc(auction, price)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      ├─ hash(id) ─ Calc(id, seller)
      │  └─ Source(auction)
      │        reads id, seller, ts
      │        watermark ts - 4000 ms
      └─ hash(id) ─ Calc(id, name)
         └─ Source(person)
               reads id, name, ts
               watermark ts - 0 ms",
    );
}

#[test]
fn keys_may_be_named_in_another_order() {
    check(
        "SELECT b.price FROM bid b JOIN auction a ON b.auction = a.id AND b.bidder = a.seller
         JOIN big g ON b.bidder = g.n AND a.id = g.auction",
        "
Sink(result)
└─ Calc(price)
   └─ MultiJoin(auction, bidder: INNER id, seller, INNER auction, n)
      ├─ hash(auction, bidder) ─ Calc(auction, bidder, price)
      │  └─ Source(bid)
      │        reads auction, bidder, price, ts
      │        watermark ts - 4000 ms
      ├─ hash(id, seller) ─ Calc(id, seller)
      │  └─ Source(auction)
      │        reads id, seller, ts
      │        watermark ts - 4000 ms
      └─ hash(auction, n) ─ Source(big)
            reads auction, n",
    );
}

#[test]
fn what_is_not_the_same_stays_as_it_is() {
    let several = |sql: &str| plan(sql).dataflow.nodes.iter().any(|n| matches!(n.kind, NodeKind::MultiJoin(_)));
    let of = |second: &str| {
        format!("SELECT b.price, a.seller, p.name FROM bid b JOIN auction a ON b.auction = a.id {second}")
    };
    assert!(several(&of("JOIN person p ON b.auction = p.id")));
    assert!(!several(&of("JOIN person p ON b.bidder = p.id")), "another key");
    assert!(!several(&of("JOIN person p ON b.auction = p.id AND b.price > p.id")), "another condition");
    assert!(!several(&of("RIGHT JOIN person p ON b.auction = p.id")));
    assert!(!several(&of("FULL JOIN person p ON b.auction = p.id")));
    let left = "SELECT b.price, a.seller, p.name FROM bid b LEFT JOIN auction a ON b.auction = a.id
                LEFT JOIN person p ON a.id = p.id";
    assert!(!several(left), "NULLs of the outer input find nothing, where rows of the first would");
    let computed = "SELECT x.price, p.name FROM (SELECT b.price + a.seller AS price, b.auction
                    FROM bid b JOIN auction a ON b.auction = a.id) x JOIN person p ON x.auction = p.id";
    assert!(!several(computed), "computed before the second join");
}
