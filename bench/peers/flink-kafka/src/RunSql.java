import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Runs a file of SQL in Flink, all of it in this process, with a checkpoint each second into a folder. Everything else is as
 * Flink has it by itself (state on the heap, no reuse of objects, no mini-batches).
 *
 * <p>Usage: {@code java RunSql FILE.sql PARALLELISM EXACTLY_ONCE|AT_LEAST_ONCE CHECKPOINTS}. Statements end with a semicolon at
 * the end of a line.
 */
public final class RunSql {
    private RunSql() {
    }

    public static void main(String[] args) throws Exception {
        Configuration settings = new Configuration();
        settings.setString("parallelism.default", args[1]);
        settings.setString("execution.checkpointing.mode", args[2]);
        settings.setString("execution.checkpointing.interval", "1s");
        settings.setString("execution.checkpointing.storage", "filesystem");
        settings.setString("execution.checkpointing.dir", Path.of(args[3]).toUri().toString());
        settings.setString("table.local-time-zone", "UTC");
        // The job ends with this process; to wait for another try would hide what broke.
        settings.setString("restart-strategy.type", "none");
        TableEnvironment tables = TableEnvironment.create(
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(settings).build());
        for (String statement : Files.readString(Path.of(args[0])).replaceAll("(?m)^--.*$", "").split(";[ \\t]*(\\n|$)")) {
            if (!statement.isBlank()) {
                TableResult result = tables.executeSql(statement.strip());
                if (result.getJobClient().isPresent()) {
                    result.await();
                }
            }
        }
    }
}
