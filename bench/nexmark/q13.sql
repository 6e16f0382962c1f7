-- q13, bounded side input join: each bid with what a table of 10,000 rows says of its auction. The first job writes that table, the
-- second looks it up.
CREATE TABLE numbers (key BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '0', 'fields.key.kind' = 'sequence', 'fields.key.start' = '0', 'fields.key.end' = '9999'
);

CREATE TABLE side_input (key BIGINT, `value` STRING)
WITH ('connector' = 'filesystem', 'path' = 'nexmark-side-input.csv', 'format' = 'csv');

INSERT INTO side_input SELECT key, CAST(key AS STRING) FROM numbers;

CREATE TABLE nexmark_q13 (auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), `value` STRING)
WITH ('connector' = 'blackhole');

INSERT INTO nexmark_q13
SELECT B.auction, B.bidder, B.price, B.dateTime, S.`value`
FROM (SELECT *, PROCTIME() AS p_time FROM bid) B
JOIN side_input FOR SYSTEM_TIME AS OF B.p_time AS S ON MOD(B.auction, 10000) = S.key;
