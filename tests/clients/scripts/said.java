// What every Java script shares: the routes to try, and how to report what came back.
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

final class Said {
  static final String HELLO = "Say hello, please.";
  static final String WEATHER = "What is the weather in Lima? Use get_weather.";
  static final Map<String, Object> PARAMETERS =
      Map.of(
          "type", "object",
          "properties", Map.of("city", Map.of("type", "string")),
          "required", List.of("city"),
          "additionalProperties", false);
  private static final ObjectMapper JSON = new ObjectMapper();

  interface Task {
    Map<String, Object> act(String model) throws Exception;
  }

  private Said() {}

  // A call as the report has it.
  static List<Object> called(String name, String arguments) throws Exception {
    return List.of(name, JSON.readValue(arguments, Map.class));
  }

  // Does every task on every route, and prints a line about each.
  static void run(Map<String, Task> tasks) throws Exception {
    Map<?, ?> routes = JSON.readValue(System.getenv("TRY_ROUTES"), Map.class);
    for (Map.Entry<?, ?> route : routes.entrySet()) {
      for (Map.Entry<String, Task> task : tasks.entrySet()) {
        Map<String, Object> line = new HashMap<>();
        line.put("task", task.getKey());
        line.put("way", route.getKey());
        line.put("begun_ns", now());
        try {
          line.putAll(task.getValue().act((String) route.getValue()));
        } catch (Exception error) {
          StringWriter trace = new StringWriter();
          error.printStackTrace(new PrintWriter(trace));
          line.put("error", trace.toString());
        }
        line.put("ended_ns", now());
        System.out.println("said: " + JSON.writeValueAsString(line));
      }
    }
  }

  private static long now() {
    Instant now = Instant.now();
    return now.getEpochSecond() * 1_000_000_000L + now.getNano();
  }
}
