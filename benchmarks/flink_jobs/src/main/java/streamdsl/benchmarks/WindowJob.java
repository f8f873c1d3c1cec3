package streamdsl.benchmarks;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.util.Collector;

/**
 * The work of benchmarks/windows.py: count, sum and mean by key and window.
 *
 * <p>{@code WindowJob WORK FILE KEYS SIZE_MS BACKEND MANAGED_BYTES INTERVAL_MS DIRECTORY}, where the file has the number of each
 * record's key. Prints one line of JSON.
 */
public final class WindowJob {
    /** Spreads the numbers over 64 bits, each its own place; the same as in state.py. */
    private static final long MIX = 0x1E3779B97F4A7C15L;

    private static final long FIRST_MS = 1_700_000_000_000L;
    private static final TypeInformation<Tuple3<String, Long, Double>> RECORD = Types.TUPLE(Types.STRING, Types.LONG, Types.DOUBLE);
    /** Count, sum, mean. */
    private static final TypeInformation<Tuple3<Long, Double, Double>> TOTALS = Types.TUPLE(Types.LONG, Types.DOUBLE, Types.DOUBLE);

    private static final AtomicLong ROWS = new AtomicLong();
    private static volatile long beganAt;
    private static volatile long beganCpu;

    private WindowJob() {}

    /** The number of each record's key, and the keys: in memory before the clock starts. */
    private static int[] numbers;

    private static String[] texts;

    /** Reads the records that the benchmark has drawn: a little-endian number of eight bytes for each. */
    private static void load(Path file, int keys) throws IOException {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            LongBuffer drawn = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size()).order(ByteOrder.LITTLE_ENDIAN).asLongBuffer();
            numbers = new int[drawn.remaining()];
            for (int i = 0; i < numbers.length; i++) {
                numbers[i] = (int) drawn.get();
            }
        }
        texts = new String[keys];
        for (int i = 0; i < keys; i++) {
            texts[i] = Long.toString(i * MIX);
        }
    }

    /** The records in order of time. */
    private static final class Records extends RichMapFunction<Long, Tuple3<String, Long, Double>> {
        private final long keys;
        private final long sizeMs;
        private transient Tuple3<String, Long, Double> record;

        Records(long keys, long sizeMs) {
            this.keys = keys;
            this.sizeMs = sizeMs;
        }

        @Override
        public void open(OpenContext context) {
            record = new Tuple3<>();
            beganCpu = cpuNanoseconds();
            beganAt = System.nanoTime();
        }

        @Override
        public Tuple3<String, Long, Double> map(Long at) {
            int number = numbers[at.intValue()];
            record.f0 = texts[number];
            record.f1 = FIRST_MS + at * sizeMs / keys;
            record.f2 = number / 4.0;
            return record;
        }
    }

    private static final class Totals implements AggregateFunction<Tuple3<String, Long, Double>, Tuple3<Long, Double, Double>, Tuple3<Long, Double, Double>> {
        @Override
        public Tuple3<Long, Double, Double> createAccumulator() {
            return new Tuple3<>(0L, 0.0, 0.0);
        }

        @Override
        public Tuple3<Long, Double, Double> add(Tuple3<String, Long, Double> record, Tuple3<Long, Double, Double> totals) {
            totals.f0++;
            totals.f1 += record.f2;
            return totals;
        }

        @Override
        public Tuple3<Long, Double, Double> getResult(Tuple3<Long, Double, Double> totals) {
            return new Tuple3<>(totals.f0, totals.f1, totals.f1 / totals.f0);
        }

        @Override
        public Tuple3<Long, Double, Double> merge(Tuple3<Long, Double, Double> a, Tuple3<Long, Double, Double> b) {
            return new Tuple3<>(a.f0 + b.f0, a.f1 + b.f1, 0.0);
        }
    }

    /** The same without a window: a row for each record. */
    private static final class Running extends KeyedProcessFunction<String, Tuple3<String, Long, Double>, Tuple3<Long, Double, Double>> {
        private transient ValueState<Tuple3<Long, Double, Double>> state;

        @Override
        public void open(OpenContext context) {
            state = getRuntimeContext().getState(new ValueStateDescriptor<>("running", TOTALS));
        }

        @Override
        public void processElement(Tuple3<String, Long, Double> record, Context context, Collector<Tuple3<Long, Double, Double>> out)
                throws Exception {
            Tuple3<Long, Double, Double> totals = state.value();
            if (totals == null) {
                totals = new Tuple3<>(0L, 0.0, 0.0);
            }
            totals.f0++;
            totals.f1 += record.f2;
            totals.f2 = totals.f1 / totals.f0;
            state.update(totals);
            out.collect(totals);
        }
    }

    /** Counts rows and forgets them. */
    private static final class Dropped implements Sink<Tuple3<Long, Double, Double>> {
        @Override
        public SinkWriter<Tuple3<Long, Double, Double>> createWriter(WriterInitContext context) {
            return new SinkWriter<>() {
                private long rows;

                @Override
                public void write(Tuple3<Long, Double, Double> row, Context context) {
                    ROWS.lazySet(++rows);
                }

                @Override
                public void flush(boolean endOfInput) {}

                @Override
                public void close() {}
            };
        }
    }

    private static Configuration configuration(String backend, String managedBytes, String intervalMs, Path directory) {
        Configuration configuration = new Configuration();
        configuration.setString("state.backend.type", backend);
        configuration.setString("taskmanager.memory.managed.size", managedBytes + " b");
        configuration.setString("state.backend.rocksdb.localdir", directory.resolve("rocksdb").toString());
        configuration.setString("io.tmp.dirs", directory.resolve("tmp").toString());
        configuration.setString("execution.checkpointing.interval", intervalMs + " ms");
        configuration.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        configuration.setString("execution.checkpointing.storage", "filesystem");
        configuration.setString("execution.checkpointing.dir", directory.resolve("checkpoints").toUri().toString());
        configuration.setString("execution.checkpointing.incremental", "true");
        configuration.setString("restart-strategy.type", "disable");
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("rest.bind-address", "127.0.0.1");
        configuration.setString("rest.bind-port", "0");
        return configuration;
    }

    /** CPU time of all threads: the task, RocksDB's background work, the JVM's own. */
    private static long cpuNanoseconds() {
        return ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class).getProcessCpuTime();
    }

    private static DataStream<Tuple3<Long, Double, Double>> windowed(
            String work, KeyedStream<Tuple3<String, Long, Double>, String> keyed, long sizeMs) {
        Duration size = Duration.ofMillis(sizeMs);
        switch (work) {
            case "tumbling":
                return keyed.window(TumblingEventTimeWindows.of(size)).aggregate(new Totals(), TOTALS, TOTALS);
            case "hopping":
                return keyed.window(SlidingEventTimeWindows.of(size, size.dividedBy(6))).aggregate(new Totals(), TOTALS, TOTALS);
            case "session":
                return keyed.window(EventTimeSessionWindows.withGap(size.dividedBy(2))).aggregate(new Totals(), TOTALS, TOTALS);
            case "count":
                return keyed.countWindow(10).aggregate(new Totals(), TOTALS, TOTALS);
            case "table":
                return keyed.process(new Running()).returns(TOTALS);
            default:
                throw new IllegalArgumentException("no such work: " + work);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String work = arguments[0];
        int keys = Integer.parseInt(arguments[2]);
        long sizeMs = Long.parseLong(arguments[3]);
        Configuration configuration = configuration(arguments[4], arguments[5], arguments[6], Path.of(arguments[7]));
        load(Path.of(arguments[1]), keys);
        long records = numbers.length;
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.createLocalEnvironment(1, configuration);
        KeyedStream<Tuple3<String, Long, Double>, String> keyed = environment.fromSequence(0, records - 1)
                .map(new Records(keys, sizeMs)).returns(RECORD)
                .assignTimestampsAndWatermarks(
                        WatermarkStrategy.<Tuple3<String, Long, Double>>forMonotonousTimestamps().withTimestampAssigner((record, at) -> record.f1))
                .keyBy(record -> record.f0, Types.STRING);
        windowed(work, keyed, sizeMs).sinkTo(new Dropped());
        environment.execute("windows");
        double seconds = (System.nanoTime() - beganAt) / 1e9;
        double cpuSeconds = (cpuNanoseconds() - beganCpu) / 1e9;
        System.out.printf(
                Locale.ROOT,
                "{\"records_per_s\": %.0f, \"records_per_cpu_s\": %.0f, \"rows\": %d}%n",
                records / seconds,
                records / cpuSeconds,
                ROWS.get());
    }
}
