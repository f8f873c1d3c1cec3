package streamdsl.benchmarks;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;

/**
 * One query of Nexmark in SQL, with mini-batches, into nothing.
 *
 * <p>{@code NexmarkJob DIRECTORY ROUNDS PARALLELISM BACKEND STATE_DIRECTORY}. The directory has the streams, as {@link Events} reads them, and
 * {@code query.sql}: the table of the result on the first line, then the query. Prints one line of JSON.
 */
public final class NexmarkJob {
    // One JVM runs it all, so what the tasks say is left here. Nanoseconds; 0: not yet.
    private static long beganAt;
    private static long beganCpu;

    private NexmarkJob() {}

    /** The first source is about to read: planning and deploying are over. */
    static synchronized void begin() {
        if (beganAt == 0) {
            beganCpu = cpuNanoseconds();
            beganAt = System.nanoTime();
        }
    }

    private static Configuration configuration(String backend, Path directory) {
        Configuration configuration = new Configuration();
        configuration.setString("state.backend.type", backend);
        configuration.setString("taskmanager.memory.managed.size", "512 mb");
        configuration.setString("state.backend.rocksdb.localdir", directory.resolve("rocksdb").toString());
        configuration.setString("io.tmp.dirs", directory.resolve("tmp").toString());
        configuration.setString("execution.checkpointing.interval", "5 s");
        configuration.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        configuration.setString("execution.checkpointing.storage", "filesystem");
        configuration.setString("execution.checkpointing.dir", directory.resolve("checkpoints").toUri().toString());
        configuration.setString("execution.checkpointing.incremental", "true");
        configuration.setString("restart-strategy.type", "disable");
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("rest.bind-address", "127.0.0.1");
        configuration.setString("rest.bind-port", "0");
        configuration.setString("table.local-time-zone", "UTC");
        configuration.setString("table.exec.mini-batch.enabled", "true");
        configuration.setString("table.exec.mini-batch.allow-latency", "2 s");
        configuration.setString("table.exec.mini-batch.size", "50000");
        configuration.setString("table.optimizer.distinct-agg.split.enabled", "true");
        return configuration;
    }

    private static String table(String stream, Events events, long rounds) {
        String columns =
                IntStream.range(0, events.names().size())
                        .mapToObj(i -> "`" + events.names().get(i) + "` " + events.types().get(i) + " NOT NULL")
                        .collect(Collectors.joining(", "));
        return "CREATE TABLE " + stream + " (" + columns + ", ts AS TO_TIMESTAMP_LTZ(`dateTime`, 3), WATERMARK FOR ts AS ts)"
                + " WITH ('connector' = 'rounds', 'stream' = '" + stream + "', 'rounds' = '" + rounds + "')";
    }

    /** CPU time of all threads: the tasks, RocksDB's background work, the JVM's own. */
    private static long cpuNanoseconds() {
        return ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class).getProcessCpuTime();
    }

    private static long peakMegabytes() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("\\D", "")) / 1024;
            }
        }
        throw new IllegalStateException("/proc/self/status has no VmHWM: run it on Linux");
    }

    public static void main(String[] arguments) throws Exception {
        Path directory = Path.of(arguments[0]);
        long rounds = Long.parseLong(arguments[1]);
        int parallelism = Integer.parseInt(arguments[2]);
        Configuration configuration = configuration(arguments[3], Path.of(arguments[4]));
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.createLocalEnvironment(parallelism, configuration);
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        String[] query = Files.readString(directory.resolve("query.sql")).split("\n", 2);
        for (String stream : new String[] {"person", "auction", "bid"}) {
            if (query[1].matches("(?s).*\\b" + stream + "\\b.*")) {
                tables.executeSql(table(stream, Events.read(directory, stream), rounds));
            }
        }
        tables.executeSql("CREATE TABLE nothing (" + query[0] + ") WITH ('connector' = 'blackhole')");
        tables.executeSql("INSERT INTO nothing " + query[1]).await();
        System.out.printf(
                Locale.ROOT,
                "{\"seconds\": %.2f, \"cpu_seconds\": %.2f, \"peak_rss_mb\": %d}%n",
                (System.nanoTime() - beganAt) / 1e9,
                (cpuNanoseconds() - beganCpu) / 1e9,
                peakMegabytes());
        System.exit(0);
    }
}
