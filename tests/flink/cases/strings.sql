-- Functions of text: NULL, the empty text, characters beyond ASCII and beyond the basic plane.

-- case: case_and_length
SELECT id, UPPER(s), LOWER(s), CHAR_LENGTH(s), CHARACTER_LENGTH(t) FROM things

-- case: initcap
SELECT id, INITCAP(s) FROM things WHERE id <> 5

-- case: initcap_beyond_ascii
SELECT INITCAP(s) FROM things WHERE id = 5

-- case: octet_and_reverse
SELECT id, REVERSE(s), REPEAT(t, 3), REPEAT(t, 0), REPEAT(t, -1) FROM things

-- case: substring
SELECT id, SUBSTRING(s, 2), SUBSTRING(s FROM 2 FOR 3), SUBSTR(s, 1, 1), SUBSTRING(s, 100) FROM things

-- case: substring_from_zero
SELECT id, SUBSTRING(s, 0), SUBSTRING(s, 0, 2), SUBSTRING(s, 2, 0) FROM things

-- case: substring_from_the_end
SELECT id, SUBSTRING(s, -3), SUBSTRING(s, -3, 2), SUBSTRING(s, -100, 2) FROM things

-- case: substring_negative_length
SELECT id, SUBSTRING(s, 2, -1) FROM things

-- case: trim
SELECT id, TRIM(s), LTRIM(s), RTRIM(s), TRIM(BOTH 'H' FROM s), TRIM(LEADING ' ' FROM s), TRIM(TRAILING 'd' FROM s) FROM things

-- case: trim_several
SELECT BTRIM('xxaxx', 'x'), LTRIM('xyxa', 'xy'), RTRIM('axyx', 'xy')

-- case: pad
SELECT id, LPAD(s, 5, '*'), RPAD(s, 13, 'ab'), LPAD(s, 0, '*'), LPAD(s, -1, '*'), RPAD(s, 3, '') FROM things

-- case: position_locate_instr
SELECT id, POSITION('o' IN s), LOCATE('o', s), LOCATE('o', s, 6), INSTR(s, 'l') FROM things

-- case: position_of_empty
SELECT POSITION('' IN 'abc'), LOCATE('', 'abc'), INSTR('abc', ''), POSITION('x' IN '')

-- case: replace_translate
SELECT id, REPLACE(s, 'l', 'L'), TRANSLATE(s, 'lo', '01') FROM things

-- case: overlay
SELECT id, OVERLAY(s PLACING '##' FROM 2), OVERLAY(s PLACING '##' FROM 2 FOR 4) FROM things

-- case: left_right
SELECT id, LEFT(s, 3), RIGHT(s, 3), LEFT(s, 0), RIGHT(s, -1), LEFT(s, 100) FROM things

-- case: concat_functions
SELECT id, CONCAT(s, t), CONCAT(s, '-', t), CONCAT_WS(',', s, t), CONCAT_WS('~', CAST(NULL AS STRING), s, CAST(NULL AS STRING), t) FROM things

-- case: split_index
SELECT id, SPLIT_INDEX(s, ',', 0), SPLIT_INDEX(s, ',', 2), SPLIT_INDEX(s, ',', 9), SPLIT_INDEX(s, 'o', 1) FROM things

-- case: split
SELECT id, SPLIT(s, ','), SPLIT(s, 'l'), CARDINALITY(SPLIT(s, ',')) FROM things

-- case: ascii_chr
SELECT id, ASCII(s), CHR(65), CHR(321), ASCII('') FROM things WHERE id <> 5

-- case: regexp
SELECT id, REGEXP(s, 'o.*o'), REGEXP_REPLACE(s, '[aeiou]', '_'), REGEXP_EXTRACT(s, '(\w+) (\w+)', 2), REGEXP_EXTRACT(s, 'W.') FROM things

-- case: regexp_more
SELECT id, REGEXP_COUNT(s, 'l'), REGEXP_SUBSTR(s, 'l+o'), REGEXP_INSTR(s, 'o'), REGEXP_EXTRACT_ALL(s, '(l+)', 1) FROM things

-- case: starts_ends_with
SELECT id, STARTSWITH(s, 'He'), ENDSWITH(s, 'c'), STARTSWITH(s, '') FROM things

-- case: base64
SELECT id, TO_BASE64(s), FROM_BASE64(TO_BASE64(s)) FROM things

-- case: hashes
SELECT id, MD5(s), SHA1(s), SHA256(s), SHA2(s, 224) FROM things

-- case: url
SELECT id, URL_ENCODE(s), URL_DECODE('a%20b%2Fc'), URL_DECODE(URL_ENCODE(s)) FROM things

-- case: parse_url
SELECT PARSE_URL('http://user@host.com:80/p/a?x=1&y=2#ref', 'HOST'), PARSE_URL('http://host.com/p?x=1&y=2', 'QUERY', 'y'), PARSE_URL('http://host.com/p?x=1', 'PATH'), PARSE_URL('http://host.com/p#r', 'REF'), PARSE_URL('http://host.com/p', 'QUERY')

-- case: str_to_map
SELECT STR_TO_MAP('k1=v1,k2=v2'), STR_TO_MAP('a:1;b:2', ';', ':')

-- case: encode_decode
SELECT id, DECODE(ENCODE(s, 'UTF-8'), 'UTF-8'), ENCODE(t, 'UTF-16BE') FROM things

-- case: is_alpha_digit
SELECT IS_ALPHA('abc'), IS_ALPHA('a1'), IS_DIGIT('12'), IS_DIGIT('1a'), IS_DECIMAL('1.5'), IS_DECIMAL('x'), IS_ALPHA('')

-- case: elt
SELECT ELT(1, 'a', 'b'), ELT(2, 'a', 'b'), ELT(3, 'a', 'b'), ELT(0, 'a', 'b')

-- case: beyond_the_basic_plane
SELECT CHAR_LENGTH('a😀b'), SUBSTRING('a😀b', 2, 1), REVERSE('a😀b')

-- case: upper_that_gets_longer
SELECT UPPER('straße'), UPPER(CAST('straße' AS STRING))

-- case: json_value
SELECT id, JSON_VALUE(js, '$.a'), JSON_VALUE(js, '$.b.c'), JSON_VALUE(js, '$.d[1]'), JSON_VALUE(js, '$.none'), JSON_VALUE(js, '$.f') FROM things WHERE id IN (1, 2, 4, 6)

-- case: json_value_bad_text
SELECT id, JSON_VALUE(js, '$.a') FROM things

-- case: json_value_returning
SELECT id, JSON_VALUE(js, '$.a' RETURNING INT), JSON_VALUE(js, '$.f' RETURNING BOOLEAN) FROM things WHERE id IN (1, 4)

-- case: json_value_on_empty
SELECT id, JSON_VALUE(js, '$.none' DEFAULT 'dflt' ON EMPTY) FROM things WHERE id IN (1, 4)

-- case: json_value_defaults
SELECT id, JSON_VALUE(js, 'lax $.b' DEFAULT 'err' ON ERROR), JSON_VALUE(js, 'strict $.none' DEFAULT 'err' ON ERROR), JSON_VALUE(js, '$.e') FROM things WHERE id IN (1, 4, 6)

-- case: json_query
SELECT id, JSON_QUERY(js, '$.b'), JSON_QUERY(js, '$.d'), JSON_QUERY(js, '$.a') FROM things WHERE id IN (1, 2, 4, 6)

-- case: json_query_with_wrapper
SELECT id, JSON_QUERY(js, '$.a' WITH WRAPPER) FROM things WHERE id IN (1, 2, 4, 6)

-- case: json_query_wildcard
SELECT id, JSON_QUERY(js, '$.d[*].x' WITH ARRAY WRAPPER) FROM things WHERE id = 6

-- case: json_exists
SELECT id, JSON_EXISTS(js, '$.a'), JSON_EXISTS(js, '$.b.c'), JSON_EXISTS(js, '$[1]') FROM things WHERE id IN (1, 2, 4, 6)

-- case: is_json
SELECT id, js IS JSON, js IS JSON OBJECT, js IS JSON ARRAY, js IS NOT JSON SCALAR FROM things

-- case: json_object
SELECT id, JSON_OBJECT('i' VALUE i, 's' VALUE t, 'b' VALUE flag) FROM things WHERE id <> 5

-- case: json_object_absent_on_null
SELECT id, JSON_OBJECT('x' VALUE i ABSENT ON NULL) FROM things

-- case: json_object_key_word
SELECT id, JSON_OBJECT(KEY 'x' VALUE i) FROM things

-- case: json_array
SELECT id, JSON_ARRAY(i, t, flag) FROM things WHERE id <> 5

-- case: json_array_null_on_null
SELECT id, JSON_ARRAY(i, t NULL ON NULL) FROM things WHERE id <> 5

-- case: json_string
SELECT id, JSON_STRING(i), JSON_STRING(t), JSON_STRING(flag), JSON_STRING(arr) FROM things WHERE id <> 5

-- case: json_quote_unquote
SELECT JSON_QUOTE('a"b'), JSON_UNQUOTE('"a\"b"'), JSON_UNQUOTE('not quoted')

-- case: json_objectagg
SELECT JSON_OBJECTAGG(KEY s VALUE i) FROM things WHERE id = 1

-- case: json_arrayagg
SELECT JSON_ARRAYAGG(i) FROM things WHERE id = 1
