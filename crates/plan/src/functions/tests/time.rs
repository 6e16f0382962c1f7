use super::{check, check_in, check_types};

#[test]
fn text_to_time_and_back() {
    check(&[
        ("DATE_FORMAT(TIMESTAMP '2020-04-15 08:05:09.123', 'yyyy-MM-dd HH:mm:ss.SSS')", "2020-04-15 08:05:09.123"),
        ("DATE_FORMAT(TIMESTAMP '2020-04-15 08:05:09', 'EEE, d MMM yy h:mm a ''o''')", "Wed, 15 Apr 20 8:05 AM o"),
        ("DATE_FORMAT(DATE '2020-04-15', 'yyyyMMdd')", "20200415"),
        ("DATE_FORMAT('2020-04-15 00:00:00', 'D MMMM EEEE')", "106 April Wednesday"),
        ("DATE_FORMAT(TIMESTAMP '2020-04-15 00:00:00', 'yyyy-bb')", "error: `b`"),
        ("TO_TIMESTAMP('2020-04-15 08:05:09')", "2020-04-15 08:05:09.000"),
        ("TO_TIMESTAMP('2020-04-15 08:05')", "NULL"),
        ("CAST('2020-04-15 08:05' AS TIMESTAMP(3))", "2020-04-15 08:05:00.000"),
        ("TO_TIMESTAMP('2020-4-5')", "2020-04-05 00:00:00.000"),
        ("TO_TIMESTAMP('2020-04-15 08:05:09.1234')", "2020-04-15 08:05:09.123"),
        ("TO_TIMESTAMP('2020-13-15 08:05:09')", "NULL"),
        ("TO_TIMESTAMP('nonsense')", "NULL"),
        ("TO_TIMESTAMP('15/04/2020 08', 'dd/MM/yyyy HH')", "2020-04-15 08:00:00.000"),
        ("TO_TIMESTAMP('20200415080509', 'yyyyMMddHHmmss')", "2020-04-15 08:05:09.000"),
        ("TO_TIMESTAMP('2020-04-15 08:05:09 PM', 'yyyy-MM-dd hh:mm:ss a')", "2020-04-15 20:05:09.000"),
        ("TO_DATE('2020-04-15')", "2020-04-15"),
        ("TO_DATE('2020-02-30')", "NULL"),
        ("TO_DATE('15.4.20', 'd.M.yy')", "2020-04-15"),
        ("TO_TIMESTAMP_LTZ(1586937909, 0)", "2020-04-15 08:05:09.000"),
        ("TO_TIMESTAMP_LTZ(1586937909123, 3)", "2020-04-15 08:05:09.123"),
        ("TO_TIMESTAMP_LTZ(1, 5)", "error: no precision"),
        ("TO_TIMESTAMP_LTZ('2020-04-15 08:05:09')", "2020-04-15 08:05:09.000"),
        ("TO_TIMESTAMP_LTZ('2020-04-15 08:05', 'yyyy-MM-dd HH:mm', 'Asia/Tokyo')", "2020-04-14 23:05:00.000"),
        ("FROM_UNIXTIME(44)", "1970-01-01 00:00:44"),
        ("FROM_UNIXTIME(-1, 'yyyy HH')", "1969 23"),
        ("CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'America/Los_Angeles')", "1969-12-31 16:00:00"),
        ("CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'Mars')", "error: not a time zone"),
        ("CAST(TIMESTAMP '2020-04-15 08:05:09' AS STRING)", "2020-04-15 08:05:09.000000000"),
        ("CAST('2020-04-15 08:05:09.5' AS TIMESTAMP)", "2020-04-15 08:05:09.500000000"),
        ("CAST('2020-04-15' AS DATE)", "2020-04-15"),
        ("CAST('abc' AS DATE)", "error: TRY_CAST"),
        ("TRY_CAST('abc' AS DATE)", "NULL"),
        ("CAST(TRUE AS STRING)", "TRUE"),
        ("CAST(CAST(1 AS DOUBLE) AS STRING)", "1.0"),
        ("CAST(12345678.9 AS STRING)", "1.23456789E7"),
        ("CAST(0.0001 AS STRING)", "1.0E-4"),
        ("CAST(123.25 AS STRING)", "123.25"),
        ("CAST(0.0125 AS STRING)", "0.0125"),
    ]);
    check_types(&[
        ("TO_TIMESTAMP('2020-04-15')", "TIMESTAMP(3)"),
        ("TO_TIMESTAMP_LTZ(1, 3)", "TIMESTAMP_LTZ(3)"),
        ("NOW()", "TIMESTAMP_LTZ(3)"),
        ("CURRENT_DATE", "DATE"),
        ("LOCALTIMESTAMP", "TIMESTAMP(3)"),
        ("CURRENT_TIME", "TIME(0)"),
        ("UNIX_TIMESTAMP()", "BIGINT"),
    ]);
}

#[test]
fn the_session_zone_decides_what_a_clock_shows() {
    check_in("Asia/Tokyo", &[("FROM_UNIXTIME(44)", "1970-01-01 09:00:44")]);
    check_in(
        "Europe/Berlin",
        &[
            ("UNIX_TIMESTAMP('1970-01-01 08:00:01.001', 'yyyy-MM-dd HH:mm:ss.SSS')", "25201"),
            ("UNIX_TIMESTAMP('1970-01-01 08:00:01.001 +0800', 'yyyy-MM-dd HH:mm:ss.SSS X')", "1"),
            ("UNIX_TIMESTAMP('1970-01-01 08:00:01.001 +0800', 'yyyy-MM-dd HH:mm:ss.SSS')", "25201"),
            ("UNIX_TIMESTAMP('1970-01-01 08:00:01.001', 'yyyy-MM-dd HH:mm:ss.SSS X')", "-9223372036854775808"),
            ("HOUR(TO_TIMESTAMP_LTZ(0, 0))", "1"),
            ("DATE_FORMAT(TO_TIMESTAMP_LTZ(0, 0), 'HH:mm XXX')", "01:00 +01:00"),
            ("CAST(TO_TIMESTAMP_LTZ(0, 0) AS STRING)", "1970-01-01 01:00:00.000"),
            ("CAST(TO_TIMESTAMP_LTZ(1500000000, 0) AS DATE)", "2017-07-14"),
            ("FLOOR(TO_TIMESTAMP_LTZ(1500000000, 0) TO DAY)", "2017-07-14 00:00:00.000"),
        ],
    );
}

#[test]
fn parts_differences_and_rounding() {
    check(&[
        ("EXTRACT(DAY FROM DATE '2006-06-05')", "5"),
        ("YEAR(DATE '1994-09-27')", "1994"),
        ("QUARTER(DATE '1994-09-27')", "3"),
        ("MONTH(DATE '1994-09-27')", "9"),
        ("WEEK(DATE '1994-09-27')", "39"),
        ("DAYOFYEAR(DATE '1994-09-27')", "270"),
        ("DAYOFMONTH(DATE '1994-09-27')", "27"),
        ("DAYOFWEEK(DATE '1994-09-27')", "3"),
        ("DAYOFWEEK(DATE '2023-01-01')", "1"),
        ("HOUR(TIMESTAMP '1994-09-27 13:14:15')", "13"),
        ("MINUTE(TIMESTAMP '1994-09-27 13:14:15')", "14"),
        ("SECOND(TIMESTAMP '1994-09-27 13:14:15')", "15"),
        ("HOUR(TO_TIMESTAMP('1969-12-31 23:00:00'))", "23"),
        ("EXTRACT(EPOCH FROM DATE '1970-01-02')", "86400"),
        ("EXTRACT(WEEK FROM DATE '2021-01-03')", "53"),
        ("TIMESTAMPDIFF(DAY, TIMESTAMP '2003-01-02 10:00:00', TIMESTAMP '2003-01-03 10:00:00')", "1"),
        ("TIMESTAMPDIFF(HOUR, DATE '2020-01-02', DATE '2020-01-01')", "-24"),
        ("TIMESTAMPDIFF(MONTH, DATE '2020-01-31', DATE '2020-02-29')", "1"),
        ("TIMESTAMPDIFF(MONTH, DATE '2020-03-31', DATE '2020-01-31')", "-2"),
        ("TIMESTAMPDIFF(YEAR, DATE '2000-02-29', DATE '2020-02-28')", "19"),
        ("TIMESTAMPDIFF(SECOND, DATE '1900-01-01', DATE '2020-01-01')", "error: does not fit INT"),
        ("TIMESTAMPDIFF(DAYZ, DATE '1900-01-01', DATE '2020-01-01')", "error: DAY"),
        ("TIMESTAMPADD(WEEK, 1, DATE '2003-01-02')", "2003-01-09"),
        ("TIMESTAMPADD(MONTH, 1, DATE '2020-01-31')", "2020-02-29"),
        ("TIMESTAMPADD(HOUR, 25, DATE '2020-01-31')", "2020-02-01 01:00:00.000"),
        ("TIMESTAMPDIFF(MONTH, TO_TIMESTAMP('2026-01-31'), TO_TIMESTAMP('2026-02-28'))", "1"),
        ("TIMESTAMPDIFF(YEAR, TO_DATE('2024-02-29'), TO_DATE('2026-02-28'))", "2"),
        ("TIMESTAMPDIFF(MONTH, TO_TIMESTAMP('2026-01-30'), TO_TIMESTAMP('2026-02-27'))", "0"),
        ("TIMESTAMPADD(MINUTE, -1, TO_TIMESTAMP('2020-01-01'))", "2019-12-31 23:59:00.000"),
        ("FLOOR(TO_TIMESTAMP('2020-05-15 12:44:31') TO MINUTE)", "2020-05-15 12:44:00.000"),
        ("CEIL(TO_TIMESTAMP('2020-05-15 12:44:31') TO MINUTE)", "2020-05-15 12:45:00.000"),
        ("FLOOR(TO_TIMESTAMP('2020-05-15 12:44:31') TO MONTH)", "2020-05-01 00:00:00.000"),
        ("CEIL(TO_TIMESTAMP('2020-05-15 12:44:31') TO YEAR)", "2021-01-01 00:00:00.000"),
        ("CEIL(DATE '2020-05-01' TO MONTH)", "2020-05-01"),
        ("FLOOR(DATE '2020-05-15' TO WEEK)", "2020-05-10"),
        ("FLOOR(TO_TIMESTAMP('1969-12-31 23:30:00') TO HOUR)", "1969-12-31 23:00:00.000"),
        ("CURRENT_WATERMARK(TO_TIMESTAMP('2020-01-01'))", "error: WATERMARK"),
    ]);
    check_types(&[
        ("HOUR(TO_TIMESTAMP('2020-01-01'))", "BIGINT"),
        ("TIMESTAMPDIFF(DAY, DATE '2020-01-01', DATE '2020-01-02')", "INT"),
        ("TIMESTAMPADD(DAY, 1, DATE '2020-01-01')", "DATE"),
    ]);
}

#[test]
fn times_past_all_calendars_are_errors_not_panics() {
    check_in(
        "Europe/Berlin",
        &[
            ("TIMESTAMPADD(YEAR, 9000000000000000000, TO_TIMESTAMP_LTZ(0, 0))", "error: calendars"),
            ("TIMESTAMPADD(WEEK, 9000000000000000000, TO_TIMESTAMP_LTZ(0, 0))", "error: calendars"),
            ("FROM_UNIXTIME(9000000000000000000)", "NULL"),
            ("TO_TIMESTAMP_LTZ(9000000000000000000, 0)", "NULL"),
            ("UNIX_TIMESTAMP('999999999999999999', 'D')", "-9223372036854775808"),
            ("TO_DATE('999999999999', 'y')", "NULL"),
        ],
    );
}
