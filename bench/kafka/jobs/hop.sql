-- Bids of each auction in windows of 10 s, every 2 s. Also run by Flink: what stands in braces is filled in by run.py.
CREATE TABLE bids (
  id BIGINT, auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts BIGINT, extra STRING,
  event_time AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR event_time AS event_time - INTERVAL '4' SECOND
) WITH (
  'connector' = 'kafka', 'topic' = '{input}', 'properties.bootstrap.servers' = '{brokers}', 'properties.group.id' = '{name}',
  'properties.isolation.level' = 'read_committed', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json'
);

CREATE TABLE results (auction BIGINT, window_start TIMESTAMP(3), window_end TIMESTAMP(3), bids BIGINT) WITH (
  'connector' = 'kafka', 'topic' = '{output}', 'properties.bootstrap.servers' = '{brokers}', 'format' = 'json',
  'sink.delivery-guarantee' = '{guarantee}', 'sink.transactional-id-prefix' = '{name}',
  'properties.transaction.timeout.ms' = '600000'
);

INSERT INTO results
SELECT auction, window_start, window_end, COUNT(*) FROM TABLE(HOP(TABLE bids, DESCRIPTOR(event_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end;
