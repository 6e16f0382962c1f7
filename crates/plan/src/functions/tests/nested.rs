use super::{check, check_types};

#[test]
fn arrays() {
    check(&[
        ("CARDINALITY(make_array(1, 2, 3))", "3"),
        ("CARDINALITY(STR_TO_MAP('a=1,b=2'))", "2"),
        ("ELEMENT(make_array(7))", "7"),
        ("ELEMENT(make_array(7, 8))", "error: 2 items"),
        ("ARRAY_CONTAINS(make_array(1, 2), 2)", "TRUE"),
        ("ARRAY_CONTAINS(make_array(1, 2), 5)", "FALSE"),
        ("ARRAY_CONTAINS(make_array(1, NULL), CAST(NULL AS INT))", "TRUE"),
        ("ARRAY_POSITION(make_array('a', 'b'), 'b')", "2"),
        ("ARRAY_POSITION(make_array('a', 'b'), 'c')", "0"),
        ("ARRAY_POSITION(make_array('a', 'b'), CAST(NULL AS STRING))", "NULL"),
        ("ARRAY_REMOVE(make_array(1, 2, 1), 1)", "[2]"),
        ("ARRAY_DISTINCT(make_array(3, 1, 3, NULL, NULL))", "[3, 1, NULL]"),
        ("ARRAY_UNION(make_array(3, 1), make_array(1, 2))", "[3, 1, 2]"),
        ("ARRAY_EXCEPT(make_array(3, 1, 3), make_array(1))", "[3]"),
        ("ARRAY_INTERSECT(make_array(3, 1, 3), make_array(3, 4))", "[3]"),
        ("ARRAY_CONCAT(make_array(1), make_array(2), make_array(1))", "[1, 2, 1]"),
        ("ARRAY_REVERSE(make_array(1, 2))", "[2, 1]"),
        ("ARRAY_SLICE(make_array(1, 2, 3), 2, 3)", "[2, 3]"),
        ("ARRAY_MAX(make_array(1, 3, 2))", "3"),
        ("ARRAY_MIN(make_array(1, 3, 2))", "1"),
        ("ARRAY_APPEND(make_array(1), 2)", "[1, 2]"),
        ("ARRAY_PREPEND(make_array(1), 2)", "[2, 1]"),
        ("ARRAY_JOIN(make_array('a', 'b'), '-')", "a-b"),
        ("ARRAY_SORT(make_array(2, 1))", "[1, 2]"),
    ]);
    check_types(&[("CARDINALITY(make_array(1))", "INT"), ("ARRAY_POSITION(make_array(1), 1)", "INT")]);
}

#[test]
fn maps_and_rows() {
    check(&[
        ("MAP_FROM_ARRAYS(make_array('a', 'b'), make_array(1, 2))", "{a=1, b=2}"),
        ("MAP_FROM_ARRAYS(make_array('a'), make_array(1, 2))", "error: 1 keys for 2 values"),
        ("MAP_KEYS(STR_TO_MAP('a=1,b=2'))", "[a, b]"),
        ("MAP_VALUES(STR_TO_MAP('a=1,b=2'))", "[1, 2]"),
        ("MAP_UNION(STR_TO_MAP('a=1,b=2'), STR_TO_MAP('b=3,c=4'))", "{a=1, b=3, c=4}"),
        ("MAP_ENTRIES(STR_TO_MAP('a=1'))", "[(a, 1)]"),
        ("ROW(1, 'x')", "(1, x)"),
    ]);
}
