import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;

/** CPU time of this process from the moment on when a fifth of the events have been made: the job has started and is warm. */
final class Measure {
    private static final OperatingSystemMXBean SYSTEM = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private static volatile long startCpu;
    private static volatile long startWall;

    private Measure() {
    }

    static void at(long event, long events) {
        if (event == events / 5) {
            startCpu = SYSTEM.getProcessCpuTime();
            startWall = System.nanoTime();
        }
    }

    /** Microseconds of CPU for each of the other events, and events a second. */
    static String told(long events) {
        double cpu = (SYSTEM.getProcessCpuTime() - startCpu) / 1e3;
        double wall = (System.nanoTime() - startWall) / 1e9;
        long steady = events - events / 5;
        return String.format(java.util.Locale.ROOT, "{\"cpu_us\": %.4f, \"events_s\": %.0f}", cpu / steady, steady / wall);
    }
}
