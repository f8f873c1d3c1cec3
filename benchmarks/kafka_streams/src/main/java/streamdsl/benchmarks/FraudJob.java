package streamdsl.benchmarks;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The three rules over a state per account, in RocksDB with a changelog topic and Kafka Streams' own cache.
 *
 * <p>FraudJob BROKER TRANSACTIONS ALERTS RECORDS GUARANTEE INTERVAL_MS THREADS DIRECTORY CITIES. The clock runs from the first record to the
 * end of the close that follows the last one, which commits. RECORDS 0: until SIGTERM.
 */
public final class FraudJob {
    private static final AtomicLong SEEN = new AtomicLong();
    private static final AtomicLong BEGAN = new AtomicLong();
    private static final CountDownLatch OVER = new CountDownLatch(1);
    private static final AtomicReference<Throwable> FAILED = new AtomicReference<>();
    private static final JsonFactory JSON = new JsonFactory();

    private static final class Rules implements Processor<String, byte[], String, byte[]> {
        private final long records;
        private final Map<String, double[]> cities;
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, Account> accounts;
        private long id;
        private long time;
        private double amount;
        private String city;

        Rules(long records, Map<String, double[]> cities) {
            this.records = records;
            this.cities = cities;
        }

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            accounts = context.getStateStore("accounts");
        }

        @Override
        public void process(Record<String, byte[]> transaction) {
            BEGAN.compareAndSet(0, System.nanoTime());
            read(transaction.value());
            Account account = accounts.get(transaction.key());
            if (account == null) {
                account = new Account(city);
            }
            if (time - account.timeBefore < 60_000) {
                alert(transaction, "VELOCITY");
            }
            if (account.n >= 5 && account.squares > 0 && Math.abs(amount - account.mean) > 3 * Math.sqrt(account.squares / account.n)) {
                alert(transaction, "AMOUNT_ANOMALY");
            }
            if (!account.city.equals(city)) {
                double km = km(cities.get(account.city), cities.get(city));
                double hours = Math.max(Math.abs(time - account.time) / 1000.0, 1.0) / 3600;
                if (km > 50 && km / hours > 900) {
                    alert(transaction, "GEO_IMPOSSIBLE");
                }
            }
            account.add(time, amount, city);
            accounts.put(transaction.key(), account);
            if (SEEN.incrementAndGet() == records) {
                OVER.countDown();
            }
        }

        private void read(byte[] value) {
            try (JsonParser json = JSON.createParser(value)) {
                json.nextToken();
                while (json.nextToken() != JsonToken.END_OBJECT) {
                    String name = json.currentName();
                    json.nextToken();
                    switch (name) {
                        case "transaction_id" -> id = json.getLongValue();
                        case "event_time" -> time = json.getLongValue();
                        case "amount" -> amount = json.getDoubleValue();
                        case "city" -> city = json.getText();
                        default -> json.skipChildren();
                    }
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        private void alert(Record<String, byte[]> transaction, String rule) {
            String text = "{\"transaction_id\":" + id + ",\"account_number\":\"" + transaction.key() + "\",\"rule\":\"" + rule
                    + "\",\"event_time\":" + time + "}";
            context.forward(transaction.withValue(text.getBytes(StandardCharsets.UTF_8)));
        }

        private static double km(double[] a, double[] b) {
            double latA = Math.toRadians(a[0]);
            double latB = Math.toRadians(b[0]);
            double h = Math.pow(Math.sin((latB - latA) / 2), 2)
                    + Math.cos(latA) * Math.cos(latB) * Math.pow(Math.sin(Math.toRadians(b[1] - a[1]) / 2), 2);
            return 2 * 6371.0 * Math.asin(Math.sqrt(h));
        }
    }

    public static void main(String[] arguments) throws Exception {
        long records = Long.parseLong(arguments[3]);
        Map<String, double[]> cities = new HashMap<>();
        for (String line : Files.readAllLines(Path.of(arguments[8]))) {
            String[] parts = line.split(",");
            cities.put(parts[0], new double[] {Double.parseDouble(parts[1]), Double.parseDouble(parts[2])});
        }
        Properties options = new Properties();
        options.put(StreamsConfig.APPLICATION_ID_CONFIG, "job-of-" + arguments[2]);
        options.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        options.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
                arguments[4].equals("exactly_once") ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        options.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, arguments[5]);
        options.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, arguments[6]);
        options.put(StreamsConfig.STATE_DIR_CONFIG, arguments[7]);
        options.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
        options.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");

        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(Stores.keyValueStoreBuilder(
                        Stores.persistentKeyValueStore("accounts"), Serdes.String(), Serdes.serdeFrom(Account::bytes, Account::of))
                .withCachingEnabled());
        builder.stream(arguments[1], Consumed.with(Serdes.String(), Serdes.ByteArray()))
                .process(() -> new Rules(records, cities), "accounts")
                .to(arguments[2], Produced.with(Serdes.String(), Serdes.ByteArray()));

        KafkaStreams streams = new KafkaStreams(builder.build(), options);
        streams.setUncaughtExceptionHandler(error -> {
            FAILED.set(error);
            OVER.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        CountDownLatch reported = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            OVER.countDown();
            try {
                reported.await();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }));
        streams.start();
        OVER.await();
        boolean closed = streams.close(Duration.ofSeconds(60));
        if (FAILED.get() != null || !closed) {
            System.err.println(closed ? FAILED.get() : "Kafka Streams did not close within 60 s");
            Runtime.getRuntime().halt(1);
        }
        double seconds = (System.nanoTime() - BEGAN.get()) / 1e9;
        long peakKb = Files.readAllLines(Path.of("/proc/self/status")).stream()
                .filter(line -> line.startsWith("VmHWM"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")))
                .findFirst().orElse(0);
        System.out.printf(Locale.ROOT,
                "{\"records\": %d, \"seconds\": %.3f, \"records_per_s\": %.0f, \"peak_rss_mb\": %d}%n",
                SEEN.get(), seconds, SEEN.get() / seconds, peakKb / 1024);
        System.out.flush();
        reported.countDown();
    }

    private FraudJob() {}
}
