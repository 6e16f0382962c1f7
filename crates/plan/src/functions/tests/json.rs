use super::{check, check_types};

#[test]
fn reading_json() {
    check(&[
        (r#"JSON_VALUE('{"a": true}', '$.a')"#, "true"),
        (r#"JSON_VALUE('{"a": true}', '$.a' RETURNING BOOLEAN)"#, "TRUE"),
        (r#"JSON_VALUE('{"a": 7}', '$.a' RETURNING INTEGER)"#, "7"),
        (r#"JSON_VALUE('{"a.b": [0.998,0.996]}', '$.["a.b"][0]' RETURNING DOUBLE)"#, "0.998"),
        (r#"JSON_VALUE('{"a": true}', 'lax $.b', 'STRING', 'DEFAULT', 'none')"#, "none"),
        (r#"JSON_VALUE('{"a": true}', 'strict $.b', 'STRING', 'NULL', NULL, 'DEFAULT', 'wrong')"#, "wrong"),
        (r#"JSON_VALUE('{"a": true}', 'strict $.b', 'STRING', 'NULL', NULL, 'ERROR')"#, "error: nowhere"),
        (r#"JSON_VALUE('{"contains blank": "right"}', 'strict $.[''contains blank'']')"#, "right"),
        (r#"JSON_VALUE('{"a": {"b": 1}}', '$.a')"#, "NULL"),
        (r#"JSON_VALUE('{"a": {"b": [1, "zwei"]}}', '$.a.b[1]')"#, "zwei"),
        (r#"JSON_VALUE('{"a": [1, 2, 3]}', '$.a[last]')"#, "3"),
        (r#"JSON_VALUE('{"a": "ü\u00e9"}', '$[''a'']')"#, "üé"),
        ("JSON_VALUE('no json', '$.a')", "NULL"),
        ("JSON_VALUE(CAST(NULL AS STRING), '$.a')", "NULL"),
        ("JSON_VALUE('{}', 'a.b')", "error: begin with $"),
        (r#"JSON_QUERY('{ "a": { "b": 1 } }', '$.a')"#, r#"{"b":1}"#),
        ("JSON_QUERY('[1, 2]', '$')", "[1,2]"),
        (r#"JSON_QUERY('{"a":[{"c":"c1"},{"c":"c2"}]}', 'lax $.a[*].c')"#, r#"["c1","c2"]"#),
        (r#"JSON_QUERY('{"a":{"c":1},"c":2}', '$..c')"#, "[2,1]"),
        ("JSON_QUERY('{}', '$', 'CONDITIONAL')", "[{}]"),
        ("JSON_QUERY('[1, 2]', '$', 'CONDITIONAL')", "[1,2]"),
        ("JSON_QUERY('[1, 2]', '$', 'UNCONDITIONAL')", "[[1,2]]"),
        ("JSON_QUERY('1', '$')", "NULL"),
        ("JSON_QUERY('1', '$', 'CONDITIONAL')", "[1]"),
        ("JSON_QUERY('{}', 'lax $.invalid', 'WITHOUT', 'EMPTY OBJECT')", "{}"),
        ("JSON_QUERY('{}', 'strict $.invalid', 'WITHOUT', 'NULL', 'EMPTY ARRAY')", "[]"),
        (r#"JSON_EXISTS('{"a": true}', '$.a')"#, "TRUE"),
        (r#"JSON_EXISTS('{"a": true}', '$.b')"#, "FALSE"),
        (r#"JSON_EXISTS('{"a": [{ "b": 1 }]}', '$.a[0].b')"#, "TRUE"),
        (r#"JSON_EXISTS('{"a": true}', 'strict $.b', 'TRUE')"#, "TRUE"),
        (r#"JSON_EXISTS('{"a": true}', 'strict $.b', 'FALSE')"#, "FALSE"),
        (r#"JSON_VALUE('{"a": true}', '$.b', 'STRING', 'DEFAULT', 'none', 'DEFAULT', 'wrong')"#, "wrong"),
        (r#"JSON_VALUE('{"a": {}}', 'lax $.a', 'STRING', 'DEFAULT', 'none', 'DEFAULT', 'wrong')"#, "none"),
        (r#"JSON_QUOTE('a"b')"#, r#""a\"b""#),
        (r#"JSON_UNQUOTE('"a\"b"')"#, r#"a"b"#),
        ("JSON_UNQUOTE('plain')", "plain"),
        ("IS_JSON('1')", "TRUE"),
        ("IS_JSON('abc')", "FALSE"),
        ("IS_JSON('\"abc\"', 'SCALAR')", "TRUE"),
        ("IS_JSON('{}', 'ARRAY')", "FALSE"),
        ("IS_JSON('{}', 'OBJECT')", "TRUE"),
        ("IS_JSON(CAST(NULL AS STRING))", "FALSE"),
    ]);
    check_types(&[("JSON_VALUE('{}', '$.a' RETURNING INTEGER)", "INT")]);
}

#[test]
fn making_json() {
    check(&[
        ("JSON_STRING(CAST(NULL AS INT))", "NULL"),
        ("JSON_STRING(1)", "1"),
        ("JSON_STRING(TRUE)", "true"),
        ("JSON_STRING('Hello, World!')", r#""Hello, World!""#),
        ("JSON_STRING(make_array(1, 2))", "[1,2]"),
        ("JSON_STRING(STR_TO_MAP('b=1,a=2'))", r#"{"a":"2","b":"1"}"#),
        ("JSON_OBJECT()", "{}"),
        ("JSON_OBJECT('K1', 'V1', 'K2', 'V2')", r#"{"K1":"V1","K2":"V2"}"#),
        ("JSON_OBJECT('K1', CAST(NULL AS STRING))", r#"{"K1":null}"#),
        ("JSON_OBJECT_ABSENT_ON_NULL('K1', CAST(NULL AS STRING))", "{}"),
        ("JSON_OBJECT('K1', JSON_OBJECT('K2', 'V'))", r#"{"K1":{"K2":"V"}}"#),
        ("JSON_ARRAY()", "[]"),
        ("JSON_ARRAY(1, '2')", r#"[1,"2"]"#),
        ("JSON_ARRAY(CAST(NULL AS STRING))", "[]"),
        ("JSON_ARRAY_NULL_ON_NULL(CAST(NULL AS STRING))", "[null]"),
        ("JSON_ARRAY(JSON_ARRAY(1))", "[[1]]"),
    ]);
}
