import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** What a process has used, as the system counts it: all its threads, and nobody else's. */
final class Usage {
    /** Clock ticks in a second, by which Linux counts in /proc whatever the kernel's own. */
    private static final long TICKS = 100;

    private Usage() {
    }

    /** CPU time so far, user and system, in ms. */
    static long cpuMs(long pid) throws Exception {
        String stat = Files.readString(Path.of("/proc/" + pid + "/stat"));
        // Behind the name, which may hold blanks.
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        return (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) * 1000 / TICKS;
    }

    /** The most memory it has had resident, in KiB. */
    static long peakKb(long pid) throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/" + pid + "/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("\\D", ""));
            }
        }
        throw new IllegalStateException("process " + pid + " has ended");
    }

    static boolean alive(long pid) throws Exception {
        try {
            String stat = Files.readString(Path.of("/proc/" + pid + "/stat"));
            return stat.charAt(stat.lastIndexOf(')') + 2) != 'Z';
        } catch (NoSuchFileException e) {
            return false;
        }
    }
}
