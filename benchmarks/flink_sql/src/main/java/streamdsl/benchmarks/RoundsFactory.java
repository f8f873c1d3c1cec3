package streamdsl.benchmarks;

import java.util.Set;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.RowType;

/**
 * The table connector "rounds": the rows of {@link Events} again and again, each round later in time and with ids that go on.
 *
 * <p>Options: 'stream' (person, auction or bid) and 'rounds'.
 */
public final class RoundsFactory implements DynamicTableSourceFactory {
    private static final ConfigOption<String> STREAM = ConfigOptions.key("stream").stringType().noDefaultValue();
    private static final ConfigOption<Long> ROUNDS = ConfigOptions.key("rounds").longType().noDefaultValue();

    @Override
    public String factoryIdentifier() {
        return "rounds";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(STREAM, ROUNDS);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of();
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        var options = context.getCatalogTable().getOptions();
        RowType type = (RowType) context.getPhysicalRowDataType().getLogicalType();
        return new Rounds(options.get("stream"), Long.parseLong(options.get("rounds")), type);
    }

    private record Rounds(String stream, long rounds, RowType type) implements ScanTableSource {
        @Override
        public ChangelogMode getChangelogMode() {
            return ChangelogMode.insertOnly();
        }

        @Override
        public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
            return new DataStreamScanProvider() {
                @Override
                public DataStream<RowData> produceDataStream(ProviderContext provider, StreamExecutionEnvironment environment) {
                    long rows = Events.of(stream).rows().length;
                    return environment
                            .fromSequence(0, rounds * rows - 1)
                            .map(new Shift(stream))
                            .returns(InternalTypeInfo.of(type));
                }

                @Override
                public boolean isBounded() {
                    return true;
                }
            };
        }

        @Override
        public DynamicTableSource copy() {
            return this;
        }

        @Override
        public String asSummaryString() {
            return "rounds of " + stream;
        }
    }

    /** The row of a number. */
    private static final class Shift extends RichMapFunction<Long, RowData> {
        private final String stream;
        private transient GenericRowData[] rows;
        private transient long[] shifts;

        Shift(String stream) {
            this.stream = stream;
        }

        @Override
        public void open(OpenContext context) {
            NexmarkJob.begin();
            rows = Events.of(stream).rows();
            shifts = Events.of(stream).shifts();
        }

        @Override
        public RowData map(Long number) {
            GenericRowData row = rows[(int) (number % rows.length)];
            long round = number / rows.length;
            GenericRowData made = new GenericRowData(row.getArity());
            for (int i = 0; i < shifts.length; i++) {
                Object value = row.getField(i);
                made.setField(i, shifts[i] == 0 || round == 0 ? value : (Object) ((Long) value + round * shifts[i]));
            }
            return made;
        }
    }
}
