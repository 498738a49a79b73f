import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.metrics.KafkaMetric;
import org.apache.kafka.common.metrics.MetricsReporter;
import org.apache.kafka.server.telemetry.ClientTelemetryContext;
import org.apache.kafka.server.telemetry.ClientTelemetryExporter;
import org.apache.kafka.server.telemetry.ClientTelemetryExporterProvider;
import org.apache.kafka.server.telemetry.ClientTelemetryPayload;
import org.apache.kafka.shaded.io.opentelemetry.proto.common.v1.KeyValue;
import org.apache.kafka.shaded.io.opentelemetry.proto.metrics.v1.Metric;
import org.apache.kafka.shaded.io.opentelemetry.proto.metrics.v1.MetricsData;
import org.apache.kafka.shaded.io.opentelemetry.proto.metrics.v1.NumberDataPoint;
import org.apache.kafka.shaded.io.opentelemetry.proto.metrics.v1.ResourceMetrics;
import org.apache.kafka.shaded.io.opentelemetry.proto.metrics.v1.ScopeMetrics;

/**
 * A receiver of clients' metrics for a broker: it writes a line for each value that is pushed to the file `receiver.file`, as
 * OpenTelemetry's own library reads it: instance id, "last" or "more", resource labels, name, labels, kind and value, with tabs
 * between them.
 */
public final class Receiver implements MetricsReporter, ClientTelemetryExporterProvider, ClientTelemetryExporter {
    private Path file;

    @Override
    public void configure(Map<String, ?> configs) {
        file = Path.of((String) configs.get("receiver.file"));
    }

    @Override
    public ClientTelemetryExporter clientTelemetryExporter() {
        return this;
    }

    @Override
    public void exportMetrics(ClientTelemetryContext context, ClientTelemetryPayload payload) {
        try {
            StringBuilder lines = new StringBuilder();
            String from = payload.clientInstanceId() + "\t" + (payload.isTerminating() ? "last" : "more");
            for (ResourceMetrics of : MetricsData.parseFrom(payload.data()).getResourceMetricsList()) {
                String resource = labels(of.getResource().getAttributesList());
                for (ScopeMetrics scope : of.getScopeMetricsList()) {
                    for (Metric metric : scope.getMetricsList()) {
                        String name = from + "\t" + resource + "\t" + metric.getName();
                        write(lines, name, metric);
                    }
                }
            }
            Files.writeString(file, lines, StandardCharsets.UTF_8, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static void write(StringBuilder lines, String name, Metric metric) {
        String kind = metric.hasSum()
                ? metric.getSum().getAggregationTemporality() + (metric.getSum().getIsMonotonic() ? "" : " falling")
                : "gauge";
        List<NumberDataPoint> points =
                metric.hasSum() ? metric.getSum().getDataPointsList() : metric.getGauge().getDataPointsList();
        for (NumberDataPoint point : points) {
            lines.append(String.join("\t", name, labels(point.getAttributesList()), kind, "" + point.getAsDouble()));
            lines.append('\n');
        }
    }

    private static String labels(List<KeyValue> attributes) {
        Map<String, String> sorted = new TreeMap<>();
        attributes.forEach(attribute -> sorted.put(attribute.getKey(), attribute.getValue().getStringValue()));
        return sorted.toString();
    }

    @Override
    public void init(List<KafkaMetric> metrics) {}

    @Override
    public void metricChange(KafkaMetric metric) {}

    @Override
    public void metricRemoval(KafkaMetric metric) {}

    @Override
    public void close() {}
}
