-- Functions of dates and times: before 1970, leap days, ends of years, zones with and without a change of the clock.

-- case: extract
SELECT id, EXTRACT(YEAR FROM ts), EXTRACT(MONTH FROM ts), EXTRACT(DAY FROM ts), EXTRACT(HOUR FROM ts), EXTRACT(MINUTE FROM ts), EXTRACT(SECOND FROM ts) FROM things WHERE id <> 2

-- case: extract_before_1970
SELECT EXTRACT(YEAR FROM ts), EXTRACT(DAY FROM ts), EXTRACT(HOUR FROM ts), EXTRACT(SECOND FROM ts), HOUR(ts), SECOND(ts) FROM things WHERE id = 2

-- case: extract_weeks
SELECT id, EXTRACT(WEEK FROM dt), EXTRACT(QUARTER FROM dt), EXTRACT(DOY FROM dt) FROM things

-- case: extract_day_of_week
SELECT id, EXTRACT(DOW FROM dt) FROM things

-- case: extract_iso
SELECT id, EXTRACT(ISODOW FROM dt), EXTRACT(ISOYEAR FROM dt) FROM things

-- case: extract_large_units
SELECT id, EXTRACT(DECADE FROM dt), EXTRACT(CENTURY FROM dt), EXTRACT(MILLENNIUM FROM dt) FROM things

-- case: extract_epoch
SELECT id, EXTRACT(EPOCH FROM ts) FROM things

-- case: extract_milliseconds
SELECT id, EXTRACT(MILLISECOND FROM ts) FROM things WHERE id <> 2

-- case: year_and_friends
SELECT id, YEAR(dt), QUARTER(dt), MONTH(dt), WEEK(dt), DAYOFYEAR(dt), DAYOFMONTH(dt), DAYOFWEEK(dt) FROM things

-- case: hour_and_friends
SELECT id, HOUR(ts), MINUTE(ts), SECOND(ts) FROM things WHERE id <> 2

-- case: floor_ts
SELECT id, FLOOR(ts TO MINUTE), FLOOR(ts TO HOUR), FLOOR(ts TO DAY), FLOOR(ts TO MONTH), FLOOR(ts TO YEAR) FROM things

-- case: floor_week_quarter
SELECT id, FLOOR(ts TO WEEK), FLOOR(dt TO QUARTER), FLOOR(dt TO WEEK) FROM things

-- case: ceil_ts
SELECT id, CEIL(ts TO SECOND), CEIL(ts TO MINUTE), CEIL(ts TO HOUR), CEIL(ts TO DAY) FROM things

-- case: ceil_month
SELECT id, CEIL(dt TO MONTH), CEIL(dt TO YEAR) FROM things

-- case: date_format
SELECT id, DATE_FORMAT(ts, 'yyyy-MM-dd'), DATE_FORMAT(ts, 'HH:mm:ss.SSS'), DATE_FORMAT(ts, 'yy/M/d H'), DATE_FORMAT(ts, 'EEE, dd MMM yyyy') FROM things

-- case: date_format_of_string
SELECT DATE_FORMAT('2026-01-02 03:04:05', 'yyyyMMdd')

-- case: to_date
SELECT TO_DATE('2026-02-03'), TO_DATE('03/02/2026', 'dd/MM/yyyy'), TO_DATE('20260203', 'yyyyMMdd')

-- case: to_timestamp
SELECT TO_TIMESTAMP('2026-02-03 04:05:06'), TO_TIMESTAMP('2026-02-03 04:05:06.789', 'yyyy-MM-dd HH:mm:ss.SSS'), TO_TIMESTAMP('03.02.2026', 'dd.MM.yyyy')

-- case: to_timestamp_of_nonsense
SELECT TO_TIMESTAMP('nonsense'), TO_TIMESTAMP(CAST(NULL AS STRING))

-- case: to_timestamp_type
SELECT TYPEOF(TO_TIMESTAMP(s)), TYPEOF(TO_DATE(s)), TYPEOF(TO_TIMESTAMP_LTZ(l, 0)), TYPEOF(TO_TIMESTAMP_LTZ(l, 3)) FROM things WHERE id = 1

-- case: to_timestamp_ltz
SELECT TO_TIMESTAMP_LTZ(1767268800, 0), TO_TIMESTAMP_LTZ(1767268800123, 3), TO_TIMESTAMP_LTZ(-1, 3), TO_TIMESTAMP_LTZ(CAST(NULL AS BIGINT), 3)

-- case: to_timestamp_ltz_in_a_zone
SET 'table.local-time-zone' = 'America/New_York';
SELECT id, CAST(moment AS TIMESTAMP(3)), DATE_FORMAT(moment, 'HH:mm') FROM moments

-- case: from_unixtime
SELECT FROM_UNIXTIME(0), FROM_UNIXTIME(1767268800), FROM_UNIXTIME(1767268800, 'yyyy/MM/dd HH'), FROM_UNIXTIME(-1)

-- case: from_unixtime_in_a_zone
SET 'table.local-time-zone' = 'Asia/Kolkata';
SELECT FROM_UNIXTIME(0), UNIX_TIMESTAMP('1970-01-01 05:30:00')

-- case: unix_timestamp
SELECT UNIX_TIMESTAMP('2026-01-01 12:00:00'), UNIX_TIMESTAMP('2026/01/01', 'yyyy/MM/dd'), UNIX_TIMESTAMP('1969-12-31 23:59:59')

-- case: timestampadd
SELECT id, TIMESTAMPADD(MONTH, 1, ts), TIMESTAMPADD(DAY, -1, ts), TIMESTAMPADD(HOUR, 25, ts), TIMESTAMPADD(YEAR, 1, dt), TIMESTAMPADD(WEEK, 1, dt) FROM things

-- case: timestampdiff
SELECT id, TIMESTAMPDIFF(DAY, ts, TIMESTAMP '2026-01-01 00:00:00'), TIMESTAMPDIFF(MONTH, ts, TIMESTAMP '2026-01-01 00:00:00'), TIMESTAMPDIFF(SECOND, TIMESTAMP '2024-01-01 00:00:00', ts), TIMESTAMPDIFF(YEAR, dt, DATE '2026-02-28') FROM things

-- case: timestampdiff_partial
SELECT TIMESTAMPDIFF(HOUR, TIMESTAMP '2026-01-01 00:59:59', TIMESTAMP '2026-01-01 02:00:00'), TIMESTAMPDIFF(MONTH, TIMESTAMP '2026-01-31 00:00:00', TIMESTAMP '2026-02-28 00:00:00'), TIMESTAMPDIFF(DAY, TIMESTAMP '2026-01-02 00:00:00', TIMESTAMP '2026-01-01 00:00:01'), TIMESTAMPDIFF(WEEK, DATE '2026-01-01', DATE '2026-01-14')

-- case: intervals
SELECT id, ts + INTERVAL '1' DAY, ts - INTERVAL '90' MINUTE, ts + INTERVAL '1' MONTH, ts - INTERVAL '1-2' YEAR TO MONTH FROM things

-- case: intervals_mixed
SELECT ts + INTERVAL '1 02:03:04.005' DAY TO SECOND, ts + INTERVAL '2' HOUR + INTERVAL '3' SECOND FROM things WHERE id = 1

-- case: date_plus_interval
SELECT id, dt + INTERVAL '1' MONTH, dt - INTERVAL '10' DAY FROM things

-- case: month_ends
SELECT DATE '2024-01-31' + INTERVAL '1' MONTH, TIMESTAMP '2023-01-31 10:00:00' + INTERVAL '1' MONTH, DATE '2024-02-29' + INTERVAL '1' YEAR, TIMESTAMP '2024-03-31 00:00:00' - INTERVAL '1' MONTH

-- case: interval_times_number
SELECT id, ts + i * INTERVAL '1' SECOND FROM things WHERE id <> 5

-- case: convert_tz
SELECT CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'America/Los_Angeles'), CONVERT_TZ('2026-07-01 12:00:00', 'Europe/Berlin', 'UTC'), CONVERT_TZ('2026-01-01 12:00:00', 'Europe/Berlin', 'UTC')

-- case: overlaps
SELECT (TIME '02:55:00', INTERVAL '1' HOUR) OVERLAPS (TIME '03:30:00', INTERVAL '2' HOUR), (TIME '09:00:00', TIME '10:00:00') OVERLAPS (TIME '10:15:00', INTERVAL '3' HOUR)

-- case: ltz_parts_in_a_zone
SET 'table.local-time-zone' = 'Asia/Shanghai';
SELECT id, EXTRACT(HOUR FROM moment), EXTRACT(DAY FROM moment), HOUR(moment) FROM moments

-- case: ltz_to_date_in_a_zone
SET 'table.local-time-zone' = 'Asia/Shanghai';
SELECT id, CAST(moment AS DATE) FROM moments

-- case: ltz_floor_in_a_zone
SET 'table.local-time-zone' = 'Asia/Shanghai';
SELECT id, FLOOR(moment TO DAY) FROM moments

-- case: ltz_date_format_in_a_zone
SET 'table.local-time-zone' = 'Asia/Shanghai';
SELECT id, DATE_FORMAT(moment, 'yyyy-MM-dd HH') FROM moments

-- case: time_of_day
SELECT id, EXTRACT(HOUR FROM tm), tm + INTERVAL '1' HOUR, CAST(tm AS STRING) FROM things

-- case: current_watermark
SELECT id, ts, CURRENT_WATERMARK(ts) FROM clicks
