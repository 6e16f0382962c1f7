-- Half of the bids, as they are. Also run by Flink: what stands in braces is filled in by run.py.
CREATE TABLE bids (
  id BIGINT, auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts BIGINT, extra STRING
) WITH (
  'connector' = 'kafka', 'topic' = '{input}', 'properties.bootstrap.servers' = '{brokers}', 'properties.group.id' = '{name}',
  'properties.isolation.level' = 'read_committed', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json'
);

CREATE TABLE results (
  id BIGINT, auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts BIGINT, extra STRING
) WITH (
  'connector' = 'kafka', 'topic' = '{output}', 'properties.bootstrap.servers' = '{brokers}', 'format' = 'json',
  'sink.delivery-guarantee' = '{guarantee}', 'sink.transactional-id-prefix' = '{name}',
  'properties.transaction.timeout.ms' = '600000'
);

INSERT INTO results SELECT * FROM bids WHERE price >= 5000;
