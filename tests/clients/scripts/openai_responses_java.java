// OpenAI's package for Java, on the Responses API.

import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.JsonValue;
import com.openai.core.http.StreamResponse;
import com.openai.models.responses.EasyInputMessage;
import com.openai.models.responses.FunctionTool;
import com.openai.models.responses.Response;
import com.openai.models.responses.ResponseCreateParams;
import com.openai.models.responses.ResponseFunctionToolCall;
import com.openai.models.responses.ResponseInputItem;
import com.openai.models.responses.ResponseStreamEvent;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

final class OpenaiResponsesJava {
  // setup
  private static final OpenAIClient CLIENT = OpenAIOkHttpClient.fromEnv();
  // end

  private static ResponseCreateParams greeting(String model) {
    return ResponseCreateParams.builder().model(model).input(Said.HELLO).build();
  }

  private static String textOf(Response response) {
    return response.output().stream()
        .flatMap(item -> item.message().stream())
        .flatMap(message -> message.content().stream())
        .flatMap(content -> content.outputText().stream())
        .map(text -> text.text())
        .collect(Collectors.joining());
  }

  static Map<String, Object> whole(String model) {
    return Map.of("text", textOf(CLIENT.responses().create(greeting(model))));
  }

  static Map<String, Object> streamed(String model) {
    List<String> pieces = new ArrayList<>();
    try (StreamResponse<ResponseStreamEvent> events =
        CLIENT.responses().createStreaming(greeting(model))) {
      events.stream()
          .flatMap(event -> event.outputTextDelta().stream())
          .forEach(event -> pieces.add(event.delta()));
    }
    return Map.of("pieces", pieces);
  }

  static Map<String, Object> tool(String model) throws Exception {
    FunctionTool.Parameters.Builder parameters = FunctionTool.Parameters.builder();
    Said.PARAMETERS.forEach((name, value) ->
        parameters.putAdditionalProperty(name, JsonValue.from(value)));
    FunctionTool weather =
        FunctionTool.builder()
            .name("get_weather")
            .description("Weather of a city.")
            .parameters(parameters.build())
            .strict(true)
            .build();
    EasyInputMessage prompt =
        EasyInputMessage.builder().role(EasyInputMessage.Role.USER).content(Said.WEATHER).build();
    List<ResponseInputItem> turns = new ArrayList<>();
    turns.add(ResponseInputItem.ofEasyInputMessage(prompt));
    ResponseCreateParams.Builder asked =
        ResponseCreateParams.builder().model(model).addTool(weather).inputOfResponse(turns);
    Response first = CLIENT.responses().create(asked.build());
    ResponseFunctionToolCall call =
        first.output().stream().flatMap(item -> item.functionCall().stream()).findFirst().get();
    turns.add(ResponseInputItem.ofFunctionCall(call));
    turns.add(
        ResponseInputItem.ofFunctionCallOutput(
            ResponseInputItem.FunctionCallOutput.builder()
                .callId(call.callId())
                .output("Sunny.")
                .build()));
    Response last = CLIENT.responses().create(asked.inputOfResponse(turns).build());
    List<Object> called = Said.called(call.name(), call.arguments());
    return Map.of("calls", List.of(called), "text", textOf(last));
  }

  public static void main(String[] arguments) throws Exception {
    Said.run(
        Map.of(
            "whole", OpenaiResponsesJava::whole,
            "streamed", OpenaiResponsesJava::streamed,
            "tool", OpenaiResponsesJava::tool));
  }
}
