package streamdsl.benchmarks;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.state.CheckpointListener;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * The work of benchmarks/state.py: every key once, then keys drawn uniformly for so many seconds.
 *
 * <p>{@code StateJob KEYS SECONDS MANAGED_BYTES INTERVAL_MS DIRECTORY [OPTION=VALUE ...]}, where the options are Flink's. Prints one line of JSON.
 */
public final class StateJob {
    /** Spreads the numbers over 64 bits, each its own place; the same as in state.py. */
    private static final long MIX = 0x1E3779B97F4A7C15L;

    private static final TypeInformation<Tuple3<String, Long, Double>> RECORD = Types.TUPLE(Types.STRING, Types.LONG, Types.DOUBLE);

    // One JVM runs it all, with one task for each step, so what the tasks say is left here. Nanoseconds; 0: not yet.
    private static volatile long beganAt;
    private static volatile long beganCpu;
    private static volatile long filledAt;
    private static volatile long filledCpu;
    private static final AtomicLong ROWS = new AtomicLong();
    private static final AtomicLong CHECKPOINTS = new AtomicLong();

    private StateJob() {}

    /** All keys in a mixed order, then any of them, without an end. */
    private static final class Draw extends RichMapFunction<Long, Tuple3<String, Long, Double>> {
        private final long keys;
        private transient SplittableRandom random;
        private transient Tuple3<String, Long, Double> record;

        Draw(long keys) {
            this.keys = keys;
        }

        @Override
        public void open(OpenContext context) {
            random = new SplittableRandom(keys);
            record = new Tuple3<>();
            beganCpu = cpuNanoseconds();
            beganAt = System.nanoTime();
        }

        @Override
        public Tuple3<String, Long, Double> map(Long at) {
            long number = at;
            if (number >= keys) {
                if (number == keys) {
                    filledCpu = cpuNanoseconds();
                    filledAt = System.nanoTime();
                }
                number = random.nextLong(keys);
            }
            record.f0 = Long.toString(number * MIX);
            record.f1 = 1_700_000_000_000L + (at >> 16);
            record.f2 = number / 4.0;
            return record;
        }
    }

    private static final class Running extends KeyedProcessFunction<String, Tuple3<String, Long, Double>, Tuple2<String, Aggregates>>
            implements CheckpointListener {
        private transient ValueState<Aggregates> state;
        private transient Tuple2<String, Aggregates> row;

        @Override
        public void open(OpenContext context) {
            state = getRuntimeContext().getState(new ValueStateDescriptor<>("running", new Aggregates.Serializer()));
            row = new Tuple2<>();
        }

        @Override
        public void processElement(Tuple3<String, Long, Double> record, Context context, Collector<Tuple2<String, Aggregates>> out)
                throws Exception {
            Aggregates aggregates = state.value();
            if (aggregates == null) {
                aggregates = new Aggregates();
            }
            aggregates.add(record.f2);
            state.update(aggregates);
            row.f0 = record.f0;
            row.f1 = aggregates;
            out.collect(row);
        }

        @Override
        public void notifyCheckpointComplete(long checkpoint) {
            CHECKPOINTS.incrementAndGet();
        }
    }

    /** Counts rows and forgets them. */
    private static final class Dropped implements Sink<Tuple2<String, Aggregates>> {
        @Override
        public SinkWriter<Tuple2<String, Aggregates>> createWriter(WriterInitContext context) {
            return new SinkWriter<>() {
                private long rows;

                @Override
                public void write(Tuple2<String, Aggregates> row, Context context) {
                    ROWS.lazySet(++rows);
                }

                @Override
                public void flush(boolean endOfInput) {}

                @Override
                public void close() {}
            };
        }
    }

    private static Configuration configuration(String managedBytes, String intervalMs, Path directory) {
        Configuration configuration = new Configuration();
        configuration.setString("state.backend.type", "rocksdb");
        configuration.setString("taskmanager.memory.managed.size", managedBytes + " b");
        configuration.setString("state.backend.rocksdb.localdir", directory.resolve("rocksdb").toString());
        configuration.setString("io.tmp.dirs", directory.resolve("tmp").toString());
        configuration.setString("execution.checkpointing.interval", intervalMs + " ms");
        configuration.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        configuration.setString("execution.checkpointing.storage", "filesystem");
        configuration.setString("execution.checkpointing.dir", directory.resolve("checkpoints").toUri().toString());
        configuration.setString("execution.checkpointing.incremental", "true");
        // A failed task ends the run: begun again, it would count keys twice.
        configuration.setString("restart-strategy.type", "disable");
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("rest.bind-address", "127.0.0.1");
        configuration.setString("rest.bind-port", "0");
        return configuration;
    }

    /** Waits so long, or until the job has failed, and then throws what it failed of. */
    private static void watch(CompletableFuture<?> job, long milliseconds) throws Exception {
        try {
            job.get(milliseconds, TimeUnit.MILLISECONDS);
        } catch (TimeoutException runs) {
            return;
        }
        throw new IllegalStateException("the job has ended by itself");
    }

    /** CPU time of all threads: the task, RocksDB's background work, the JVM's own. */
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
        long keys = Long.parseLong(arguments[0]);
        double seconds = Double.parseDouble(arguments[1]);
        Configuration configuration = configuration(arguments[2], arguments[3], Path.of(arguments[4]));
        for (int i = 5; i < arguments.length; i++) {
            String[] option = arguments[i].split("=", 2);
            configuration.setString(option[0], option[1]);
        }

        StreamExecutionEnvironment environment = StreamExecutionEnvironment.createLocalEnvironment(1, configuration);
        environment.fromSequence(0, Long.MAX_VALUE - 1)
                .map(new Draw(keys)).returns(RECORD)
                .keyBy(record -> record.f0, Types.STRING)
                .process(new Running()).returns(Types.TUPLE(Types.STRING, Types.GENERIC(Aggregates.class)))
                .sinkTo(new Dropped());
        JobClient client = environment.executeAsync("state");
        CompletableFuture<?> job = client.getJobExecutionResult();
        while (filledAt == 0) {
            watch(job, 10);
        }
        watch(job, (long) (seconds * 1000));
        long rows = ROWS.get();
        double accessed = (System.nanoTime() - filledAt) / 1e9;
        double accessedCpu = (cpuNanoseconds() - filledCpu) / 1e9;
        System.out.printf(
                Locale.ROOT,
                "{\"fill_records_per_s\": %.0f, \"fill_records_per_cpu_s\": %.0f,"
                        + " \"access_records_per_s\": %.0f, \"access_records_per_cpu_s\": %.0f,"
                        + " \"peak_rss_mb\": %d, \"checkpoints\": %d}%n",
                keys / ((filledAt - beganAt) / 1e9),
                keys / ((filledCpu - beganCpu) / 1e9),
                (rows - keys) / accessed,
                (rows - keys) / accessedCpu,
                peakMegabytes(),
                CHECKPOINTS.get());
        client.cancel().get();
        System.exit(0);
    }
}
