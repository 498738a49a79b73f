import java.io.IOException;
import java.util.Arrays;

/**
 * Runs another class's main method, tied to whoever started this process: when standard input ends, this process ends.
 *
 * <p>The operating system closes the pipe however the other side died, kill -9 included, so nothing that a failed or
 * interrupted run started stays behind. One byte 'r' (release) unties the two, for a cluster that is to outlive the
 * command that started it.
 */
public final class Tether {
    private Tether() {}

    public static void main(String[] args) throws Throwable {
        Thread watch = new Thread(Tether::watch, "tether");
        watch.setDaemon(true);
        watch.start();
        String[] rest = Arrays.copyOfRange(args, 1, args.length);
        Class.forName(args[0]).getMethod("main", String[].class).invoke(null, (Object) rest);
    }

    private static void watch() {
        try {
            if (System.in.read() == 'r') {
                return;
            }
        } catch (IOException e) {
            // A pipe that cannot be read is a pipe whose other end is gone.
        }
        Runtime.getRuntime().halt(130);
    }
}
