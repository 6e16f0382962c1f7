//! `docs/functions.md` lists exactly what is registered. `WRITE_DOCS=1 cargo test -p millstream-plan docs` writes it anew.

use super::super::kernel::Function;
use super::{SessionZone, register};
use datafusion_expr::Documentation;
use std::fmt::Write;

/// Name, meaning, and how it differs from Flink (nothing where it does not).
const MEANINGS: &[(&str, &str, &str)] = &[
    ("char_length", "Number of characters.", ""),
    (
        "position",
        "`POSITION(a IN b)`: where `a` first stands in `b`, from 1; 0 if it does not.",
        "Also as a plain call.",
    ),
    (
        "instr",
        "Where the second text stands in the first, from a start (from the end if negative), for the n-th time.",
        "",
    ),
    ("count_char", "How often the second text stands in the first, without overlaps.", "Ours alone."),
    ("locate", "Where the first text stands in the second, from a start.", ""),
    ("repeat", "The text so many times.", "At most 64 MiB."),
    ("overlay", "`OVERLAY(a PLACING b FROM n [FOR m])`: `m` characters from `n` on replaced.", ""),
    (
        "substring",
        "`SUBSTRING(a FROM n [FOR m])`: from 1, a negative start from the end.",
        "Characters, not UTF-16 units.",
    ),
    ("left", "The first characters; none for a negative number.", ""),
    ("right", "The last characters; none for a negative number.", ""),
    ("concat", "All in a row; NULL if one is NULL.", "Takes other types than STRING too, written as CAST does."),
    ("concat_ws", "Joined by the first; NULLs are left out.", "Takes other types than STRING too."),
    ("lpad", "Filled up in front to a length, or cut to it.", "The pad may be left out: a blank."),
    ("rpad", "Filled up behind to a length, or cut to it.", "The pad may be left out: a blank."),
    ("chr", "The character of the lowest eight bits.", ""),
    ("elt", "The n-th of the texts, from 1.", ""),
    ("startswith", "Whether the first begins with the second.", ""),
    ("endswith", "Whether the first ends with the second.", ""),
    ("is_alpha", "Whether all characters are letters; FALSE for NULL.", ""),
    ("is_digit", "Whether all characters are digits; FALSE for NULL.", ""),
    ("is_decimal", "Whether it can be read as a number; FALSE for NULL.", ""),
    ("printf", "Java's format: `%s %d %f %e %x %o %b %c %n %%`.", "Dates only by `%s`."),
    (
        "regexp_replace",
        "Every match replaced; the replacement is taken as it is.",
        "A wrong pattern is an error, not NULL.",
    ),
    (
        "regexp_extract",
        "A group (0, the whole, if left out) of the first match.",
        "A wrong pattern is an error, not NULL.",
    ),
    ("regexp_substr", "The first match.", "A wrong pattern is an error, not NULL."),
    ("regexp", "Whether some part matches.", "A wrong pattern is an error, not FALSE."),
    ("regexp_count", "Number of matches.", ""),
    ("regexp_instr", "Where the first match stands, from 1; 0 if there is none.", ""),
    ("regexp_extract_all", "A group (1 if left out) of all matches.", ""),
    ("split_index", "The n-th part, from 0, between delimiters.", ""),
    ("split", "All parts between delimiters; none of the empty text.", ""),
    ("str_to_map", "A MAP from `k=v,k=v`; the delimiters are regular expressions.", "Entries keep their order."),
    ("from_base64", "What base64 stands for, as text.", ""),
    ("to_base64", "In base64, with padding.", ""),
    ("hex", "An integer, text or bytes in hexadecimal, upper case.", ""),
    ("unhex", "The bytes that hexadecimal stands for; NULL if it is none.", ""),
    ("bin", "An integer in binary.", ""),
    ("encode", "Text in a character set.", ""),
    ("decode", "Text out of a character set.", ""),
    ("md5", "MD5, 32 hexadecimal digits.", ""),
    ("sha1", "SHA-1, 40 hexadecimal digits.", ""),
    ("sha224", "SHA-224, 56 hexadecimal digits.", ""),
    ("sha256", "SHA-256, 64 hexadecimal digits.", ""),
    ("sha384", "SHA-384, 96 hexadecimal digits.", ""),
    ("sha512", "SHA-512, 128 hexadecimal digits.", ""),
    ("sha2", "SHA-2 with 224, 256, 384 or 512 bits.", "The length must be a constant."),
    ("parse_url", "HOST, PATH, QUERY, REF, PROTOCOL, FILE, AUTHORITY or USERINFO of a URL; of QUERY also one key.", ""),
    ("url_encode", "Percent-encoded as of an HTML form.", ""),
    ("url_decode", "Percent-decoded; NULL if it cannot be.", ""),
    ("now", "The clock, as TIMESTAMP_LTZ(3).", "Once for each batch."),
    ("current_timestamp", "The clock, as TIMESTAMP_LTZ(3).", "Once for each batch."),
    ("current_row_timestamp", "The clock, as TIMESTAMP_LTZ(3).", "Once for each batch."),
    ("localtimestamp", "The clock in the session zone, as TIMESTAMP(3).", "Once for each batch."),
    ("current_date", "The date in the session zone.", "Once for each batch."),
    ("current_time", "The time of day in the session zone.", "Once for each batch."),
    ("localtime", "The time of day in the session zone.", "Once for each batch."),
    ("date_format", "A date or time as text by Java's pattern.", ""),
    ("to_timestamp", "A text as TIMESTAMP(3) by Java's pattern; NULL if it cannot be read.", ""),
    (
        "to_timestamp_ltz",
        "Seconds (0) or milliseconds (3) since 1970, or a text, pattern and zone, as TIMESTAMP_LTZ(3).",
        "Also 6 and 9, cut to milliseconds.",
    ),
    (
        "to_date",
        "A text as DATE by Java's pattern; NULL if it cannot be read.",
        "NULL also with a pattern, where Flink errs.",
    ),
    ("from_unixtime", "Seconds since 1970 as text in the session zone.", ""),
    ("unix_timestamp", "The clock in seconds, or a text by Java's pattern; the least BIGINT if it cannot be read.", ""),
    (
        "convert_tz",
        "A text `yyyy-MM-dd HH:mm:ss` from one zone to another.",
        "No abbreviations that depend on the reader.",
    ),
    ("extract", "`EXTRACT(unit FROM time)`.", ""),
    ("timestampdiff", "`TIMESTAMPDIFF(unit, a, b)`: whole units from `a` to `b`.", "Past INT an error, not a wrap."),
    ("timestampadd", "`TIMESTAMPADD(unit, n, time)`.", ""),
    ("floor_to", "`FLOOR(time TO unit)`; weeks begin on Sunday.", ""),
    ("ceil_to", "`CEIL(time TO unit)`.", "Never before the time, also for months and longer."),
    (
        "current_watermark",
        "The watermark before the row, NULL before the first; a row at or below it is late.",
        "Only straight over a table with a WATERMARK; in batch mode too, where Flink's is NULL.",
    ),
    ("year", "The year.", ""),
    ("quarter", "The quarter, 1 to 4.", ""),
    ("month", "The month, 1 to 12.", ""),
    ("week", "The week of ISO 8601, 1 to 53.", ""),
    ("dayofyear", "The day of the year, from 1.", ""),
    ("dayofmonth", "The day of the month, from 1.", ""),
    ("dayofweek", "The day of the week; 1 is Sunday.", ""),
    ("hour", "The hour, 0 to 23.", ""),
    ("minute", "The minute.", ""),
    ("second", "The second.", ""),
    ("e", "2.718281828459045.", ""),
    ("log", "The natural logarithm, or the one to a base: `LOG(base, x)`.", ""),
    ("sqrt", "The square root, as DOUBLE; NaN of a negative number.", ""),
    ("power", "To a power, as DOUBLE.", ""),
    ("mod", "The remainder, with the sign of the dividend.", ""),
    ("sign", "-1, 0 or 1 in the type of the number.", ""),
    ("ceil", "Up to a whole number.", ""),
    ("floor", "Down to a whole number.", ""),
    ("round", "To so many digits, halves away from zero.", ""),
    ("truncate", "To so many digits, toward zero.", ""),
    ("if", "The second if the first is TRUE, else the third.", ""),
    ("greatest", "The greatest; NULL if one is NULL.", ""),
    ("least", "The least; NULL if one is NULL.", ""),
    ("typeof", "The type, as SQL writes it.", "TIMESTAMP(0) shows as TIMESTAMP(3)."),
    ("cardinality", "Number of items or entries; of a MULTISET, of all its values.", "Takes a MULTISET too."),
    ("element", "The only item of an array.", ""),
    ("array_contains", "Whether an item is there; NULL can be sought.", ""),
    ("array_position", "Where an item first stands, from 1; 0 if it does not.", ""),
    ("array_remove", "Without all items that are equal.", ""),
    ("array_distinct", "Without doubles, in order.", ""),
    ("array_union", "The items of both, without doubles, in order.", ""),
    ("array_except", "The items that the second does not have, without doubles.", ""),
    ("array_intersect", "The items that the second has too, without doubles.", ""),
    ("array_concat", "One after the other; NULL if one is NULL.", ""),
    ("array_append", "With one more item at the end.", ""),
    ("array_prepend", "With one more item in front.", ""),
    ("map_from_arrays", "A MAP from keys and values.", ""),
    ("map_union", "The entries of both; the second's values stand.", "Two maps, not more."),
    (
        "json_value",
        "A scalar by path; type, ON EMPTY, default, ON ERROR, default may follow as arguments. Numbers keep their digits: `1.50`.",
        "The clauses as in Flink, or as arguments.",
    ),
    (
        "json_query",
        "An object or array by path; wrapper, ON EMPTY and ON ERROR may follow.",
        "The clauses as in Flink, or as arguments.",
    ),
    (
        "json_exists",
        "Whether a path leads somewhere; ON ERROR may follow.",
        "The clause as in Flink, or as an argument.",
    ),
    (
        "is_json",
        "Whether the text is JSON; VALUE, SCALAR, ARRAY or OBJECT may follow.",
        "Also as `x IS [NOT] JSON [ARRAY]`.",
    ),
    ("json_quote", "The text as a JSON string, in quotes.", ""),
    ("json_unquote", "What a JSON string says; what is none comes back as it is.", ""),
    ("json_string", "Any value as JSON.", ""),
    ("json", "The text is JSON already, for JSON_OBJECT and JSON_ARRAY.", "A wrong text is an error."),
    (
        "json_object",
        "An object of keys and values; NULLs stay.",
        "Plain arguments; `KEY k VALUE v` where the parser takes it.",
    ),
    ("json_object_absent_on_null", "`JSON_OBJECT(... ABSENT ON NULL)`.", "Ours alone, as a plain call."),
    ("json_array", "An array of values; NULLs are left out.", ""),
    ("json_array_null_on_null", "`JSON_ARRAY(... NULL ON NULL)`.", "Ours alone, as a plain call."),
    ("sum", "The sum in Flink's type; of FLOAT and DOUBLE exact, rounded once.", "Overflow is an error, not a wrap."),
    (
        "avg",
        "The mean in Flink's type: of integers an integer; of FLOAT and DOUBLE from the exact sum.",
        "DECIMAL rounds half away from zero.",
    ),
    ("var_pop", "The variance of the whole, from exact sums.", "Always DOUBLE."),
    ("var_samp", "The variance of a sample, from exact sums.", "Always DOUBLE; NULL for one row."),
    ("stddev_pop", "The root of VAR_POP.", "Always DOUBLE."),
    ("stddev_samp", "The root of VAR_SAMP.", "Always DOUBLE; NULL for one row."),
    ("collect", "The values that are not NULL, each with how often it is there: a MULTISET.", ""),
    ("listagg", "Texts joined by a separator, `,` if left out; NULLs are left out.", "ORDER BY may stand inside."),
    ("first_value", "The first that is not NULL.", "ORDER BY may stand inside."),
    ("last_value", "The last that is not NULL.", "ORDER BY may stand inside."),
    (
        "approx_percentile",
        "The value at a fraction, between neighbours in proportion; less than 0.4 % off, whole numbers to 511 exact.",
        "Ours alone.",
    ),
    ("approx_percentile_cont", "APPROX_PERCENTILE in the words of the standard.", "Ours alone."),
    ("approx_median", "APPROX_PERCENTILE at 0.5.", "Ours alone."),
    (
        "approx_distinct",
        "About how many values differ, by HyperLogLog; the standard error is 0.8 %.",
        "Flink knows it as APPROX_COUNT_DISTINCT, in batch.",
    ),
    ("bool_or", "TRUE if one of the values is.", "Ours alone."),
    ("covar_pop", "The covariance of the whole, of two columns.", "Ours alone."),
    ("grouping", "A bit for each expression: 1 where it is not grouped by.", ""),
];

/// Names of DataFusion's functions that Flink has with the same meaning.
const IN_FLINK: &[&str] = &[
    "upper",
    "lower",
    "btrim",
    "ltrim",
    "rtrim",
    "replace",
    "initcap",
    "reverse",
    "translate",
    "ascii",
    "uuid",
    "abs",
    "sqrt",
    "ln",
    "log10",
    "log2",
    "exp",
    "sin",
    "sinh",
    "cos",
    "cosh",
    "tan",
    "tanh",
    "cot",
    "asin",
    "acos",
    "atan",
    "atan2",
    "degrees",
    "radians",
    "pi",
    "coalesce",
    "nullif",
    "nvl",
    "array_max",
    "array_min",
    "array_reverse",
    "array_slice",
    "map_keys",
    "map_values",
    "map_entries",
    "struct",
    "count",
    "min",
    "max",
    "array_agg",
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lead",
    "lag",
    "make_array",
    "array_to_string",
    "percentile_cont",
];

fn line(out: &mut String, name: &str, aliases: &[String], usage: Option<String>, doc: Option<&Documentation>) {
    let own = MEANINGS.iter().find(|(n, ..)| *n == name);
    let usage = usage.or_else(|| doc.map(|d| d.syntax_example.clone())).unwrap_or_else(|| format!("{name}(...)"));
    let one_line = |text: &str| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = text.find(". ").map_or(text.len(), |at| at + 1);
        text[..end].replace('|', "\\|")
    };
    let meaning = match (own, doc) {
        (Some((_, meaning, _)), _) => meaning.to_string(),
        (_, Some(doc)) => one_line(&doc.description),
        _ => "Of DataFusion's.".to_string(),
    };
    let differs = match own {
        Some((.., differs)) => differs.to_string(),
        None if IN_FLINK.contains(&name) => String::new(),
        None => "Ours alone.".to_string(),
    };
    let mut names = format!("`{name}`");
    let mut aliases: Vec<&String> = aliases.iter().collect();
    aliases.sort();
    for alias in aliases {
        let _ = write!(names, ", `{alias}`");
    }
    let usage = one_line(&usage).replace('`', "'");
    let _ = writeln!(out, "| {names} | `{usage}` | {meaning} | {differs} |");
}

/// The aliases that still lead to the function, and not to one of ours.
fn reached(aliases: &[String], name: &str, find: impl Fn(&str) -> Option<String>) -> Vec<String> {
    aliases.iter().filter(|alias| find(alias).as_deref() == Some(name)).cloned().collect()
}

fn render() -> String {
    let mut out = String::from(
        "# Functions\n\nAll functions of the dialect, with their other names. Names can be written in upper or lower case. The \
         last column says how a function\ndiffers from the one of Flink SQL, or that Flink has none of this name (\"Ours \
         alone\"): a script that is to run on Flink too\nshould not use those. `[, x]` may be left out; `...` stands for any \
         number more.\n\nNULL among the arguments makes the result NULL, unless the meaning says otherwise. Patterns of dates \
         are those of Java\n(`yyyy-MM-dd HH:mm:ss.SSS`); regular expressions too, without look-around and back-references. \
         The session's time zone\nis the setting `table.local-time-zone`.\n",
    );
    let functions = register(&SessionZone::UTC);
    let head = "| name | use | meaning | beside Flink |\n|---|---|---|---|\n";
    let _ = write!(out, "\n## Scalar functions\n\n{head}");
    let mut scalars = functions.scalars.clone();
    scalars.sort_by(|a, b| a.name().cmp(b.name()));
    for f in &scalars {
        let usage = f.inner().downcast_ref::<Function>().map(Function::usage);
        let reached = reached(f.aliases(), f.name(), |n| functions.scalar(n).map(|f| f.name().to_string()));
        line(&mut out, f.name(), &reached, usage, f.documentation());
    }
    let _ = write!(out, "\n## Aggregate functions\n\n{head}");
    let mut aggregates = functions.aggregates.clone();
    aggregates.sort_by(|a, b| a.name().cmp(b.name()));
    for f in &aggregates {
        let usage = MEANINGS.iter().any(|(n, ..)| *n == f.name()).then(|| match f.name() {
            "listagg" => "LISTAGG(STRING[, separator])".to_string(),
            "approx_percentile_cont" => "APPROX_PERCENTILE_CONT(fraction) WITHIN GROUP (ORDER BY number)".to_string(),
            "approx_percentile" => "APPROX_PERCENTILE(number, fraction)".to_string(),
            name => format!("{}(x)", name.to_uppercase()),
        });
        let reached = reached(f.aliases(), f.name(), |n| functions.aggregate(n).map(|f| f.name().to_string()));
        line(&mut out, f.name(), &reached, usage, f.documentation());
    }
    let _ = write!(out, "\n## Window functions\n\n{head}");
    let mut windows = functions.windows.clone();
    windows.sort_by(|a, b| a.name().cmp(b.name()));
    for f in &windows {
        line(&mut out, f.name(), f.aliases(), None, f.documentation());
    }
    out
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the page of the docs is what is tested, and it is a file")]
fn the_docs_list_exactly_what_is_registered() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/functions.md");
    let wanted = render();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(path, &wanted).expect("docs/functions.md can be written");
    }
    let written = std::fs::read_to_string(path).expect("docs/functions.md is there");
    let stranger = written.lines().find(|line| !wanted.lines().any(|w| w == *line));
    assert_eq!(stranger, None, "docs/functions.md has a line that does not fit; write it anew with WRITE_DOCS=1");
    assert_eq!(
        written.lines().count(),
        wanted.lines().count(),
        "docs/functions.md lacks lines; write it anew with WRITE_DOCS=1"
    );
}

#[test]
fn each_function_of_ours_is_explained_and_none_else() {
    let functions = register(&SessionZone::UTC);
    let ours = functions.scalars.iter().filter(|f| f.inner().downcast_ref::<Function>().is_some());
    let missing: Vec<&str> = ours.map(|f| f.name()).filter(|n| !MEANINGS.iter().any(|(m, ..)| m == n)).collect();
    assert!(missing.is_empty(), "no meaning of {missing:?}");
    let known = |n: &str| functions.scalar(n).is_some() || functions.aggregate(n).is_some();
    let gone: Vec<&str> = MEANINGS.iter().map(|(n, ..)| *n).filter(|n| !known(n)).collect();
    assert!(gone.is_empty(), "{gone:?} are not registered");
}
