-- q23, bids with their auction and its seller: a join of three streams.
CREATE TABLE nexmark_q23 (
  auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), itemName STRING, seller BIGINT, category BIGINT,
  name STRING, city STRING, state STRING
) WITH ('connector' = 'blackhole');

INSERT INTO nexmark_q23
SELECT B.auction, B.bidder, B.price, B.dateTime, A.itemName, A.seller, A.category, P.name, P.city, P.state
FROM bid AS B
JOIN auction AS A ON B.auction = A.id
JOIN person AS P ON A.seller = P.id;
