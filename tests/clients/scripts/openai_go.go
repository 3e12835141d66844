// OpenAI's package for Go, on chat completions.
package main

import "context"

// setup
import "github.com/openai/openai-go/v3"

var client = openai.NewClient()

// end

var tools = []openai.ChatCompletionToolUnionParam{
	openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
		Name:        "get_weather",
		Description: openai.String("Weather of a city."),
		Parameters:  parameters,
	}),
}

func whole(model string) (said, error) {
	answer, err := client.Chat.Completions.New(context.Background(), openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(hello)},
	})
	if err != nil {
		return nil, err
	}
	return said{"text": answer.Choices[0].Message.Content}, nil
}

func streamed(model string) (said, error) {
	chunks := client.Chat.Completions.NewStreaming(
		context.Background(),
		openai.ChatCompletionNewParams{
			Model:    model,
			Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(hello)},
		},
	)
	pieces := []string{}
	for chunks.Next() {
		for _, choice := range chunks.Current().Choices {
			pieces = append(pieces, choice.Delta.Content)
		}
	}
	return said{"pieces": pieces}, chunks.Err()
}

func tool(model string) (said, error) {
	asked := openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(weather)},
		Tools:    tools,
	}
	answer, err := client.Chat.Completions.New(context.Background(), asked)
	if err != nil {
		return nil, err
	}
	message := answer.Choices[0].Message
	call := message.ToolCalls[0]
	asked.Messages = append(asked.Messages, message.ToParam(), openai.ToolMessage("Sunny.", call.ID))
	final, err := client.Chat.Completions.New(context.Background(), asked)
	if err != nil {
		return nil, err
	}
	calls := []any{called(call.Function.Name, call.Function.Arguments)}
	return said{"calls": calls, "text": final.Choices[0].Message.Content}, nil
}

func main() {
	run(task{"whole", whole}, task{"streamed", streamed}, task{"tool", tool})
}
