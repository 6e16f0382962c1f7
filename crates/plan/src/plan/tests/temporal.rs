//! Joins that choose one of several versions by time.

use super::check;

#[test]
fn asof_says_how_old_a_version_may_be() {
    check(
        "SELECT a.id, b.price FROM auction a ASOF JOIN bid AS b MATCH_CONDITION (b.ts BETWEEN a.ts - INTERVAL '5' MINUTE AND a.ts) ON a.id = b.auction AND b.qty > 3",
        "
Sink(result)
└─ Calc(id, price)
   └─ TemporalJoin(left on id as of ts, at most 300000 ms before AND filter)
      ├─ hash(id) ─ Source(auction)
      │     reads id, ts, $order
      │     watermark ts - 4000 ms
      └─ hash(auction) ─ Calc(auction, price, qty, ts, $order, qty > 3 AS filter)
         └─ Source(bid)
               reads auction, price, qty, ts, $order, $proctime
               watermark ts - 4000 ms",
    );
}
