import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Runs files of SQL in Flink, all of it in this process, and says what an event has cost since a fifth of them had been made.
 *
 * <p>Usage: {@code java RunNexmark PARALLELISM EVENTS heap|rocksdb|check INTERVAL|- CHECKPOINTS FILE.sql...}. Without an interval
 * there are no checkpoints; {@code check} runs as a batch and prints the rows of the query. Statements end with a semicolon at
 * the end of a line.
 */
public final class RunNexmark {
    private RunNexmark() {
    }

    public static void main(String[] args) throws Exception {
        boolean check = args[2].equals("check");
        Configuration settings = new Configuration();
        settings.setString("parallelism.default", args[0]);
        settings.setString("table.local-time-zone", "UTC");
        // The job ends with this process; to wait for another try would hide what broke.
        settings.setString("restart-strategy.type", "none");
        if (args[2].equals("rocksdb")) {
            settings.setString("state.backend.type", "rocksdb");
            settings.setString("execution.checkpointing.incremental", "true");
        }
        if (!args[3].equals("-")) {
            settings.setString("execution.checkpointing.interval", args[3]);
            settings.setString("execution.checkpointing.storage", "filesystem");
            settings.setString("execution.checkpointing.dir", Path.of(args[4]).toUri().toString());
        }
        EnvironmentSettings.Builder mode = EnvironmentSettings.newInstance();
        mode = check ? mode.inBatchMode() : mode.inStreamingMode();
        TableEnvironment tables = TableEnvironment.create(mode.withConfiguration(settings).build());
        for (int file = 5; file < args.length; file++) {
            String script = Files.readString(Path.of(args[file])).replaceAll("(?m)^\\s*--.*$", "");
            for (String statement : script.split(";[ \\t]*(\\n|$)")) {
                if (statement.isBlank()) {
                    continue;
                }
                TableResult result = tables.executeSql(statement.strip());
                if (check && statement.strip().startsWith("SELECT")) {
                    result.collect().forEachRemaining(row -> System.out.println(row));
                } else if (result.getJobClient().isPresent()) {
                    result.await();
                    System.out.println(Measure.told(Long.parseLong(args[1])));
                }
            }
        }
    }
}
