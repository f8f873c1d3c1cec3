package streamdsl.benchmarks;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/** What the rules know of an account. Its times never go back, so the last two are enough for a rule about three within a minute. */
final class Account {
    long time = Long.MIN_VALUE / 2;
    long timeBefore = Long.MIN_VALUE / 2;
    long n;
    double mean;
    double squares;
    String city;

    Account(String city) {
        this.city = city;
    }

    void add(long time, double amount, String city) {
        timeBefore = this.time;
        this.time = time;
        this.city = city;
        n++;
        double delta = amount - mean;
        mean += delta / n;
        squares += delta * (amount - mean);
    }

    static byte[] bytes(String topic, Account account) {
        byte[] name = account.city.getBytes(StandardCharsets.UTF_8);
        ByteBuffer buffer = ByteBuffer.allocate(40 + name.length);
        buffer.putLong(account.time).putLong(account.timeBefore).putLong(account.n).putDouble(account.mean).putDouble(account.squares);
        return buffer.put(name).array();
    }

    static Account of(String topic, byte[] bytes) {
        if (bytes == null) {
            return null;
        }
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        Account account = new Account(new String(bytes, 40, bytes.length - 40, StandardCharsets.UTF_8));
        account.time = buffer.getLong();
        account.timeBefore = buffer.getLong();
        account.n = buffer.getLong();
        account.mean = buffer.getDouble();
        account.squares = buffer.getDouble();
        return account;
    }
}
