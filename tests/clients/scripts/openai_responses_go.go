// OpenAI's package for Go, on the Responses API.
package main

import (
	"context"

	"github.com/openai/openai-go/v3/responses"
)

// setup
import "github.com/openai/openai-go/v3"

var client = openai.NewClient()

// end

var tools = []responses.ToolUnionParam{
	responses.ToolParamOfFunction("get_weather", parameters, true),
}

// greeting asks for a hello.
func greeting(model string) responses.ResponseNewParams {
	return responses.ResponseNewParams{
		Model: model,
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(hello)},
	}
}

func whole(model string) (said, error) {
	answer, err := client.Responses.New(context.Background(), greeting(model))
	if err != nil {
		return nil, err
	}
	return said{"text": answer.OutputText()}, nil
}

func streamed(model string) (said, error) {
	events := client.Responses.NewStreaming(context.Background(), greeting(model))
	pieces := []string{}
	for events.Next() {
		if event := events.Current(); event.Type == "response.output_text.delta" {
			pieces = append(pieces, event.AsResponseOutputTextDelta().Delta)
		}
	}
	return said{"pieces": pieces}, events.Err()
}

func tool(model string) (said, error) {
	turns := responses.ResponseInputParam{
		responses.ResponseInputItemParamOfMessage(weather, responses.EasyInputMessageRoleUser),
	}
	asked := responses.ResponseNewParams{
		Model: model,
		Input: responses.ResponseNewParamsInputUnion{OfInputItemList: turns},
		Tools: tools,
	}
	answer, err := client.Responses.New(context.Background(), asked)
	if err != nil {
		return nil, err
	}
	calls := []any{}
	for _, item := range answer.Output {
		if item.Type != "function_call" {
			continue
		}
		call := item.AsFunctionCall()
		calls = append(calls, called(call.Name, call.Arguments))
		output := responses.ResponseInputItemFunctionCallOutputParam{
			CallID: openai.String(call.CallID),
			Output: responses.ResponseInputItemFunctionCallOutputOutputUnionParam{
				OfString: openai.String("Sunny."),
			},
		}
		turns = append(
			turns,
			responses.ResponseInputItemParamOfFunctionCall(call.Arguments, call.CallID, call.Name),
			responses.ResponseInputItemUnionParam{OfFunctionCallOutput: &output},
		)
	}
	asked.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: turns}
	final, err := client.Responses.New(context.Background(), asked)
	if err != nil {
		return nil, err
	}
	return said{"calls": calls, "text": final.OutputText()}, nil
}

func main() {
	run(task{"whole", whole}, task{"streamed", streamed}, task{"tool", tool})
}
