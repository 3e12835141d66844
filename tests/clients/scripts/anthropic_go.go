// Anthropic's package for Go.
package main

import "context"

// setup
import "github.com/anthropics/anthropic-sdk-go/v2"

var client = anthropic.NewClient()

// end

// asked is a request with one turn of the user.
func asked(model, prompt string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model:     anthropic.Model(model),
		MaxTokens: 1024,
		Messages: []anthropic.MessageParam{
			anthropic.NewUserMessage(anthropic.NewTextBlock(prompt)),
		},
	}
}

// textOf is what a message says.
func textOf(message *anthropic.Message) string {
	text := ""
	for _, block := range message.Content {
		text += block.Text
	}
	return text
}

func whole(model string) (said, error) {
	message, err := client.Messages.New(context.Background(), asked(model, hello))
	if err != nil {
		return nil, err
	}
	return said{"text": textOf(message)}, nil
}

func streamed(model string) (said, error) {
	events := client.Messages.NewStreaming(context.Background(), asked(model, hello))
	message, pieces := anthropic.Message{}, []string{}
	for events.Next() {
		event := events.Current()
		if err := message.Accumulate(event); err != nil {
			return nil, err
		}
		if event.Type == "content_block_delta" {
			pieces = append(pieces, event.AsContentBlockDelta().Delta.Text)
		}
	}
	return said{"pieces": pieces}, events.Err()
}

func tool(model string) (said, error) {
	request := asked(model, weather)
	request.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{
		Name:        "get_weather",
		Description: anthropic.String("Weather of a city."),
		InputSchema: anthropic.ToolInputSchemaParam{
			Properties: parameters["properties"],
			Required:   []string{"city"},
		},
	}}}
	message, err := client.Messages.New(context.Background(), request)
	if err != nil {
		return nil, err
	}
	calls, results := []any{}, []anthropic.ContentBlockParamUnion{}
	for _, block := range message.Content {
		if block.Type == "tool_use" {
			calls = append(calls, called(block.Name, string(block.Input)))
			results = append(results, anthropic.NewToolResultBlock(block.ID, "Sunny.", false))
		}
	}
	request.Messages = append(
		request.Messages, message.ToParam(), anthropic.NewUserMessage(results...),
	)
	final, err := client.Messages.New(context.Background(), request)
	if err != nil {
		return nil, err
	}
	return said{"calls": calls, "text": textOf(final)}, nil
}

func main() {
	run(task{"whole", whole}, task{"streamed", streamed}, task{"tool", tool})
}
