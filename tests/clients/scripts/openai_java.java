// OpenAI's package for Java, on chat completions.

import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.JsonValue;
import com.openai.core.http.StreamResponse;
import com.openai.models.FunctionDefinition;
import com.openai.models.FunctionParameters;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionFunctionTool;
import com.openai.models.chat.completions.ChatCompletionMessage;
import com.openai.models.chat.completions.ChatCompletionToolMessageParam;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

final class OpenaiJava {
  // setup
  private static final OpenAIClient CLIENT = OpenAIOkHttpClient.fromEnv();
  // end

  private static ChatCompletionCreateParams.Builder asked(String model, String prompt) {
    return ChatCompletionCreateParams.builder().model(model).addUserMessage(prompt);
  }

  private static ChatCompletionMessage answer(ChatCompletionCreateParams.Builder asked) {
    return CLIENT.chat().completions().create(asked.build()).choices().get(0).message();
  }

  static Map<String, Object> whole(String model) {
    return Map.of("text", answer(asked(model, Said.HELLO)).content().orElseThrow());
  }

  static Map<String, Object> streamed(String model) {
    List<String> pieces = new ArrayList<>();
    try (StreamResponse<ChatCompletionChunk> chunks =
        CLIENT.chat().completions().createStreaming(asked(model, Said.HELLO).build())) {
      chunks.stream()
          .flatMap(chunk -> chunk.choices().stream())
          .forEach(choice -> pieces.add(choice.delta().content().orElse("")));
    }
    return Map.of("pieces", pieces);
  }

  static Map<String, Object> tool(String model) throws Exception {
    FunctionParameters.Builder parameters = FunctionParameters.builder();
    Said.PARAMETERS.forEach((name, value) ->
        parameters.putAdditionalProperty(name, JsonValue.from(value)));
    FunctionDefinition weather =
        FunctionDefinition.builder()
            .name("get_weather")
            .description("Weather of a city.")
            .parameters(parameters.build())
            .build();
    ChatCompletionCreateParams.Builder asked =
        asked(model, Said.WEATHER)
            .addTool(ChatCompletionFunctionTool.builder().function(weather).build());
    ChatCompletionMessage message = answer(asked);
    var call = message.toolCalls().orElseThrow().get(0).asFunction();
    asked.addMessage(message);
    asked.addMessage(
        ChatCompletionToolMessageParam.builder().toolCallId(call.id()).content("Sunny.").build());
    String text = answer(asked).content().orElseThrow();
    List<Object> called = Said.called(call.function().name(), call.function().arguments());
    return Map.of("calls", List.of(called), "text", text);
  }

  public static void main(String[] arguments) throws Exception {
    Said.run(
        Map.of(
            "whole", OpenaiJava::whole,
            "streamed", OpenaiJava::streamed,
            "tool", OpenaiJava::tool));
  }
}
