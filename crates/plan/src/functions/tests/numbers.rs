use super::{check, check_types};

#[test]
fn numbers() {
    check(&[
        ("ABS(-3)", "3"),
        ("MOD(-7, 3)", "-1"),
        ("MOD(7, -3)", "1"),
        ("MOD(7, 0)", "error: "),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("POWER(2, 3)", "8.0"),
        ("SQRT(4)", "2.0"),
        ("LN(E())", "1.0"),
        ("LOG10(100)", "2.0"),
        ("LOG2(8)", "3.0"),
        ("LOG(2, 8)", "3.0"),
        ("LOG(E())", "1.0"),
        ("EXP(0)", "1.0"),
        ("CEIL(1.2)", "2.0"),
        ("FLOOR(-1.2)", "-2.0"),
        ("SQRT(2.25)", "1.5"),
        ("SQRT(-1.0)", "NaN"),
        ("CEIL(CAST(1.20 AS DECIMAL(5, 2)))", "2"),
        ("FLOOR(CAST(-1.20 AS DECIMAL(5, 2)))", "-2"),
        ("ROUND(1.005, 2)", "1.01"),
        ("ROUND(2.5)", "3.0"),
        ("ROUND(-2.5)", "-3.0"),
        ("ROUND(1234.5678, -2)", "1200.0"),
        ("ROUND(15, -1)", "20"),
        ("ROUND(CAST(2.345 AS DECIMAL(10, 3)), 2)", "2.35"),
        ("ROUND(CAST(-2.345 AS DECIMAL(10, 3)), 2)", "-2.35"),
        ("ROUND(CAST(155 AS DECIMAL(3, 0)), -1)", "160"),
        ("ROUND(CAST(NULL AS DOUBLE), 2)", "NULL"),
        ("TRUNCATE(42.324, 2)", "42.32"),
        ("TRUNCATE(42.324)", "42.0"),
        ("TRUNCATE(-42.324, -1)", "-40.0"),
        ("TRUNCATE(CAST(42.329 AS DECIMAL(5, 3)), 2)", "42.32"),
        ("SIGN(-2.5)", "-1.0"),
        ("SIGN(0)", "0"),
        ("PI()", "3.141592653589793"),
        ("DEGREES(PI())", "180.0"),
        ("SIN(0)", "0.0"),
        ("COT(CAST(NULL AS DOUBLE))", "NULL"),
    ]);
    check_types(&[
        ("CEIL(1)", "BIGINT"),
        ("POWER(2, 3)", "DOUBLE"),
        ("ROUND(CAST(2.345 AS DECIMAL(10, 3)), 2)", "DECIMAL(10, 2)"),
        ("MOD(CAST(7 AS BIGINT), CAST(3 AS INT))", "INT"),
    ]);
}

#[test]
fn choosing_between_values() {
    check(&[
        ("IF(5 > 3, 5, 3)", "5"),
        ("IF(CAST(NULL AS BOOLEAN), 'a', 'b')", "b"),
        ("IFNULL(CAST(NULL AS INT), 5)", "5"),
        ("NULLIF(5, 5)", "NULL"),
        ("NULLIF(5, 0)", "5"),
        ("COALESCE(NULL, 'default')", "default"),
        ("GREATEST(1, 3, 2)", "3"),
        ("GREATEST(1, CAST(NULL AS INT), 2)", "NULL"),
        ("GREATEST('a', 'b')", "b"),
        ("LEAST(1, 2.5)", "1.0"),
        ("LEAST(CAST(NULL AS INT), 2)", "NULL"),
        ("TYPEOF(CAST(1 AS INT))", "INT NOT NULL"),
        ("TRY_CAST('x' AS INT)", "NULL"),
        ("TRY_CAST('12' AS INT)", "12"),
    ]);
}
