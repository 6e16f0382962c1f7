import java.io.IOException;
import java.math.BigDecimal;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.ExplainDetail;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * Runs every case through Flink and writes down what it answers.
 *
 * <pre>
 *  data/tables.sql ─┐
 *  cases/TOPIC.sql ─┴▶ a TableEnvironment for each case ─▶ changelog ─▶ final rows ─▶ goldens/TOPIC.json
 * </pre>
 *
 * <p>What always holds: streaming mode, parallelism 1, and a watermark behind every row that moves it, so that which
 * rows are late is a function of the file alone. The rows of a golden are the final ones (+I and +U put in, -U and -D
 * taken out) as a sorted bag; whether the query is append-only is what Flink's planner says. A case that Flink refuses
 * or fails is written down as refused: that is an answer too.
 *
 * <p>Usage: {@code java Record FOLDER [--changed] [TOPIC...]}, with FOLDER as the working directory, since the tables'
 * paths are relative. With {@code --changed} answers stay whose case and data are what they were.
 */
public final class Record {
    /** Cases at a time, all on one mini-cluster in this process. */
    private static final int THREADS = 4;

    /** Longer than any case takes, so that one that hangs is a failure and not a night. */
    private static final int SECONDS_MAX = 120;

    private static final Pattern CASE = Pattern.compile("(?m)^-- case: *(\\S+) *$");

    /** As it is written below: a name at two blanks, and the answer up to the next name or the end. */
    private static final Pattern ANSWER = Pattern.compile("(?ms)^  \"(\\w+)\": (\\{.*?\\}),?\n(?=  \"| \\})");

    private static final Pattern SET = Pattern.compile("SET '(.*)' = '(.*)'");

    record Case(String name, String text) {
        /** Statements end with a semicolon at the end of a line; the last one is the query. */
        List<String> statements() {
            List<String> found = new ArrayList<>();
            for (String statement : text.replaceAll("(?m)^\\s*--.*$", "").split(";[ \\t]*(\\n|$)")) {
                if (!statement.isBlank()) {
                    found.add(statement.strip());
                }
            }
            return found;
        }
    }

    public static void main(String[] args) throws Exception {
        Path folder = Path.of(args[0]);
        List<String> only = new ArrayList<>(List.of(args).subList(1, args.length));
        boolean changed = only.remove("--changed");
        String data = dataDigest(folder.resolve("data"));
        String tables = Files.readString(folder.resolve("data/tables.sql"));
        URI cluster = cluster().getRestAddress().get();
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        Map<String, Map<String, Future<String>>> answers = new TreeMap<>();
        for (Path file : list(folder.resolve("cases"), ".sql")) {
            String topic = file.getFileName().toString().replace(".sql", "");
            if (!only.isEmpty() && !only.contains(topic)) {
                continue;
            }
            Map<String, String> known = changed ? known(golden(folder, topic), data) : Map.of();
            Map<String, Future<String>> of = new LinkedHashMap<>();
            for (Case c : cases(Files.readString(file))) {
                if (of.containsKey(c.name)) {
                    throw new IllegalArgumentException(file + ": two cases are called " + c.name);
                }
                String answer = known.getOrDefault(c.name, "");
                of.put(c.name, answer.startsWith(head(c))
                        ? CompletableFuture.completedFuture(answer)
                        : threads.submit(() -> golden(cluster, topic, tables, c)));
            }
            answers.put(topic, of);
        }
        threads.shutdown();
        int count = 0;
        for (var topic : answers.entrySet()) {
            StringBuilder out = new StringBuilder("{\n \"data\": \"" + data + "\",\n \"cases\": {");
            String separator = "\n";
            for (var answer : topic.getValue().entrySet()) {
                out.append(separator).append("  ").append(quoted(answer.getKey())).append(": ");
                out.append(answer.getValue().get(SECONDS_MAX * 10L, TimeUnit.SECONDS));
                separator = ",\n";
                count++;
            }
            out.append("\n }\n}\n");
            Files.writeString(golden(folder, topic.getKey()), out);
        }
        System.out.println(count + " cases recorded");
        // The mini-cluster's threads are no daemons.
        System.exit(0);
    }

    static Path golden(Path folder, String topic) {
        return folder.resolve("goldens/" + topic + ".json");
    }

    /** How an answer begins: with what it was made of. */
    static String head(Case c) throws Exception {
        return "{\"sql\": \"" + digest(c.text) + "\", ";
    }

    /** The answers of a golden of ours, as they stand there; none if it was made of other data. */
    static Map<String, String> known(Path golden, String data) throws IOException {
        Map<String, String> found = new LinkedHashMap<>();
        String text = Files.exists(golden) ? Files.readString(golden) : "";
        if (text.contains("\"data\": \"" + data + "\"")) {
            Matcher at = ANSWER.matcher(text);
            while (at.find()) {
                found.put(at.group(1), at.group(2));
            }
        }
        return found;
    }

    static List<Path> list(Path folder, String ending) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.filter(f -> f.toString().endsWith(ending)).sorted().toList();
        }
    }

    static List<Case> cases(String text) {
        List<Case> found = new ArrayList<>();
        Matcher at = CASE.matcher(text);
        String name = null;
        int from = 0;
        while (at.find()) {
            if (name != null) {
                found.add(new Case(name, text.substring(from, at.start()).strip()));
            }
            name = at.group(1);
            from = at.end();
        }
        if (name != null) {
            found.add(new Case(name, text.substring(from).strip()));
        }
        return found;
    }

    /** Over the names and bytes of all inputs, so that a golden tells when it is older than what it was made of. */
    static String dataDigest(Path folder) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (Path file : list(folder, "")) {
            digest.update((file.getFileName() + "\n").getBytes(StandardCharsets.UTF_8));
            digest.update(Files.readAllBytes(file));
        }
        return HexFormat.of().formatHex(digest.digest()).substring(0, 16);
    }

    static String digest(String text) throws Exception {
        byte[] bytes = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        return HexFormat.of().formatHex(bytes).substring(0, 16);
    }

    /** One for all cases: to start and stop one for each takes longer than the cases. */
    static MiniCluster cluster() throws Exception {
        Configuration configuration = new Configuration();
        configuration.setString("rest.bind-port", "0");
        configuration.setString("rest.address", "localhost");
        configuration.setString("taskmanager.memory.network.min", "64mb");
        configuration.setString("taskmanager.memory.network.max", "64mb");
        configuration.setString("taskmanager.memory.managed.size", "128mb");
        MiniCluster cluster = new MiniCluster(new MiniClusterConfiguration.Builder().setConfiguration(configuration)
                .setNumTaskManagers(1).setNumSlotsPerTaskManager(THREADS).build());
        cluster.start();
        return cluster;
    }

    static TableEnvironment environment(URI cluster) {
        Configuration configuration = new Configuration();
        configuration.setString("parallelism.default", "1");
        // 0: no timer, and a watermark at once behind every row that moves it.
        configuration.setString("pipeline.auto-watermark-interval", "0 ms");
        configuration.setString("table.local-time-zone", "UTC");
        configuration.setString("restart-strategy.type", "none");
        configuration.setString("execution.target", "remote");
        configuration.setString("rest.address", cluster.getHost());
        configuration.setString("rest.port", String.valueOf(cluster.getPort()));
        configuration.setString("client.retry-period", "20 ms");
        return TableEnvironment.create(
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());
    }

    static String golden(URI cluster, String topic, String tables, Case c) throws Exception {
        String head = head(c);
        long start = System.nanoTime();
        // What fails here is no answer to a case: it ends the recording.
        TableEnvironment environment = environment(cluster);
        for (String statement : new Case("tables", tables).statements()) {
            environment.executeSql(statement);
        }
        try {
            List<String> statements = c.statements();
            for (String statement : statements.subList(0, statements.size() - 1)) {
                Matcher set = SET.matcher(statement);
                if (set.matches()) {
                    environment.getConfig().set(set.group(1), set.group(2));
                } else {
                    environment.executeSql(statement);
                }
            }
            String query = statements.get(statements.size() - 1);
            String plan = environment.explainSql(query, ExplainDetail.CHANGELOG_MODE);
            Matcher mode = Pattern.compile("== Optimized Physical Plan ==\\s.*changelogMode=\\[([A-Z,]*)\\]").matcher(plan);
            if (!mode.find()) {
                throw new IllegalStateException("no changelog mode in the plan:\n" + plan);
            }
            boolean append = mode.group(1).equals("I");
            String answer = head + answer(environment.executeSql(query), append);
            log(topic, c, start, append ? "append" : "updating");
            return answer;
        } catch (Throwable t) {
            Throwable root = t;
            while (root.getCause() != null && root.getCause() != root) {
                root = root.getCause();
            }
            String why = String.valueOf(root.getMessage()).lines().limit(3).reduce((a, b) -> a + " " + b).orElse("");
            log(topic, c, start, "REFUSED " + root.getClass().getSimpleName() + ": " + why);
            return head + "\"refused\": " + quoted(root.getClass().getSimpleName() + ": " + why) + "}";
        }
    }

    static void log(String topic, Case c, long start, String what) {
        System.out.printf("%-40s %5.1f s  %s%n", topic + "/" + c.name, (System.nanoTime() - start) / 1e9, what);
    }

    static String answer(TableResult result, boolean append) throws Exception {
        Map<String, Integer> bag = new TreeMap<>();
        try (CloseableIterator<Row> rows = result.collect()) {
            while (rows.hasNext()) {
                Row row = rows.next();
                int change = switch (row.getKind()) {
                    case INSERT, UPDATE_AFTER -> 1;
                    case UPDATE_BEFORE, DELETE -> -1;
                };
                bag.merge(list(row), change, Integer::sum);
            }
        }
        List<String> columns = new ArrayList<>();
        for (Column column : result.getResolvedSchema().getColumns()) {
            String type = column.getDataType().getLogicalType().asSerializableString().replace(" NOT NULL", "");
            columns.add("[" + quoted(column.getName()) + ", " + quoted(type) + "]");
        }
        List<String> rows = new ArrayList<>();
        for (var entry : bag.entrySet()) {
            if (entry.getValue() < 0) {
                throw new IllegalStateException("taken back and never given: " + entry.getKey());
            }
            rows.addAll(Collections.nCopies(entry.getValue(), entry.getKey()));
        }
        String inner = rows.isEmpty() ? "" : "\n    " + String.join(",\n    ", rows) + "\n   ";
        return "\"columns\": [" + String.join(", ", columns) + "], \"append\": " + append + ", \"rows\": [" + inner + "]}";
    }

    static String list(Row row) {
        List<String> cells = new ArrayList<>();
        for (int i = 0; i < row.getArity(); i++) {
            cells.add(value(row.getField(i)));
        }
        return "[" + String.join(", ", cells) + "]";
    }

    /** Scalars as strings, arrays and rows as lists, a map as a list of pairs sorted by the key's text. */
    static String value(Object value) {
        if (value == null) {
            return "null";
        } else if (value instanceof Row row) {
            return list(row);
        } else if (value instanceof byte[] bytes) {
            return quoted(Base64.getEncoder().encodeToString(bytes));
        } else if (value instanceof Map<?, ?> map) {
            List<String> pairs = new ArrayList<>();
            map.forEach((k, v) -> pairs.add("[" + value(k) + ", " + value(v) + "]"));
            Collections.sort(pairs);
            return "[" + String.join(", ", pairs) + "]";
        } else if (value.getClass().isArray()) {
            List<String> items = new ArrayList<>();
            for (int i = 0; i < java.lang.reflect.Array.getLength(value); i++) {
                items.add(value(java.lang.reflect.Array.get(value, i)));
            }
            return "[" + String.join(", ", items) + "]";
        } else if (value instanceof List<?> of) {
            return "[" + String.join(", ", of.stream().map(Record::value).toList()) + "]";
        } else if (value instanceof BigDecimal decimal) {
            return quoted(decimal.toPlainString());
        } else if (value instanceof Instant at) {
            return quoted(time(at.atOffset(ZoneOffset.UTC).toLocalDateTime()) + "Z");
        } else if (value instanceof LocalDateTime at) {
            return quoted(time(at));
        } else if (value instanceof LocalTime at) {
            return quoted(time(LocalDateTime.of(LocalDate.EPOCH, at)).substring(11));
        }
        return quoted(value.toString());
    }

    /** `2013-01-01 10:15:00`, with as many digits of the second as are needed. */
    static String time(LocalDateTime at) {
        String text = "%04d-%02d-%02d %02d:%02d:%02d".formatted(at.getYear(), at.getMonthValue(), at.getDayOfMonth(),
                at.getHour(), at.getMinute(), at.getSecond());
        return at.getNano() == 0 ? text : text + ("." + "%09d".formatted(at.getNano())).replaceAll("0+$", "");
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append("\\u%04x".formatted((int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}
