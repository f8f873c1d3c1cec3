package streamdsl.benchmarks;

import java.io.IOException;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** Seven running aggregates of one key: 56 bytes. */
public final class Aggregates {
    long n;
    double total;
    double low;
    double high;
    double mean;
    double first;
    double last;

    void add(double x) {
        if (n == 0) {
            low = high = first = x;
        }
        n++;
        total += x;
        low = Math.min(low, x);
        high = Math.max(high, x);
        mean = total / n;
        last = x;
    }

    /** Fixed fields and no flags: a POJO's serializer writes more and goes through reflection. */
    public static final class Serializer extends TypeSerializerSingleton<Aggregates> {
        private static final int LENGTH = 7 * Long.BYTES;

        @Override
        public boolean isImmutableType() {
            return false;
        }

        @Override
        public Aggregates createInstance() {
            return new Aggregates();
        }

        @Override
        public Aggregates copy(Aggregates from) {
            return copy(from, new Aggregates());
        }

        @Override
        public Aggregates copy(Aggregates from, Aggregates to) {
            to.n = from.n;
            to.total = from.total;
            to.low = from.low;
            to.high = from.high;
            to.mean = from.mean;
            to.first = from.first;
            to.last = from.last;
            return to;
        }

        @Override
        public int getLength() {
            return LENGTH;
        }

        @Override
        public void serialize(Aggregates row, DataOutputView target) throws IOException {
            target.writeLong(row.n);
            target.writeDouble(row.total);
            target.writeDouble(row.low);
            target.writeDouble(row.high);
            target.writeDouble(row.mean);
            target.writeDouble(row.first);
            target.writeDouble(row.last);
        }

        @Override
        public Aggregates deserialize(DataInputView source) throws IOException {
            return deserialize(new Aggregates(), source);
        }

        @Override
        public Aggregates deserialize(Aggregates row, DataInputView source) throws IOException {
            row.n = source.readLong();
            row.total = source.readDouble();
            row.low = source.readDouble();
            row.high = source.readDouble();
            row.mean = source.readDouble();
            row.first = source.readDouble();
            row.last = source.readDouble();
            return row;
        }

        @Override
        public void copy(DataInputView source, DataOutputView target) throws IOException {
            target.write(source, LENGTH);
        }

        @Override
        public TypeSerializerSnapshot<Aggregates> snapshotConfiguration() {
            return new Snapshot();
        }
    }

    /** What a checkpoint says about the format. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Aggregates> {
        public Snapshot() {
            super(Serializer::new);
        }
    }
}
