package streamdsl.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;

/**
 * One stream in memory. The file has a line for each row, its columns separated by tabs; the first line says of each column its name, its
 * type (BIGINT or STRING) and how much a round adds to it, as {@code name:type:shift}.
 */
record Events(List<String> names, List<String> types, long[] shifts, GenericRowData[] rows) {
    // One JVM runs it all.
    private static final Map<String, Events> READ = new HashMap<>();

    static Events of(String stream) {
        return READ.get(stream);
    }

    static Events read(Path directory, String stream) throws IOException {
        List<String> lines = Files.readAllLines(directory.resolve(stream + ".tsv"));
        String[] columns = lines.get(0).split("\t");
        String[][] described = new String[columns.length][];
        long[] shifts = new long[columns.length];
        for (int i = 0; i < columns.length; i++) {
            described[i] = columns[i].split(":");
            shifts[i] = Long.parseLong(described[i][2]);
        }
        GenericRowData[] rows = new GenericRowData[lines.size() - 1];
        for (int at = 0; at < rows.length; at++) {
            String[] values = lines.get(at + 1).split("\t", -1);
            rows[at] = new GenericRowData(columns.length);
            for (int i = 0; i < columns.length; i++) {
                boolean whole = described[i][1].equals("BIGINT");
                rows[at].setField(i, whole ? (Object) Long.valueOf(values[i]) : StringData.fromString(values[i]));
            }
        }
        Events events =
                new Events(
                        List.of(described).stream().map(one -> one[0]).toList(),
                        List.of(described).stream().map(one -> one[1]).toList(),
                        shifts,
                        rows);
        READ.put(stream, events);
        return events;
    }
}
