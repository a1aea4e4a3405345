// Two seconds or so of what a JVM does: threads, garbage, compiled code that finds null by SIGSEGV.
import java.util.ArrayList;
import java.util.List;

public class Load {
    static int length(String text) {
        try {
            return text.length();
        } catch (NullPointerException nothing) {
            return 0;
        }
    }

    public static void main(String[] arguments) throws Exception {
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 16; i++) {
            Thread thread = new Thread(() -> {
                long total = 0;
                for (int turn = 0; turn < 600_000; turn++) {
                    String text = turn % 50_000 == 0 ? null : Integer.toString(turn);
                    total += length(text);
                }
                System.out.println(total);
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) thread.join();
    }
}
