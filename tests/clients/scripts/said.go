// What every Go script shares: the routes to try, and how to report what came back.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

const (
	hello   = "Say hello, please."
	weather = "What is the weather in Lima? Use get_weather."
)

// said is what a task got: text, pieces or calls.
type said map[string]any

type task struct {
	name string
	act  func(model string) (said, error)
}

// parameters are those of the tool get_weather.
var parameters = map[string]any{
	"type":                 "object",
	"properties":           map[string]any{"city": map[string]any{"type": "string"}},
	"required":             []string{"city"},
	"additionalProperties": false,
}

// called is a call as the report has it.
func called(name, arguments string) []any {
	var values any
	if err := json.Unmarshal([]byte(arguments), &values); err != nil {
		panic(err)
	}
	return []any{name, values}
}

// run does every task on every route, and prints a line about each.
func run(tasks ...task) {
	var routes map[string]string
	if err := json.Unmarshal([]byte(os.Getenv("TRY_ROUTES")), &routes); err != nil {
		panic(err)
	}
	for way, model := range routes {
		for _, one := range tasks {
			begun := time.Now().UnixNano()
			line, err := one.act(model)
			if err != nil {
				line = said{"error": err.Error()}
			}
			line["task"], line["way"] = one.name, way
			line["begun_ns"], line["ended_ns"] = begun, time.Now().UnixNano()
			told, err := json.Marshal(line)
			if err != nil {
				panic(err)
			}
			fmt.Printf("said: %s\n", told)
		}
	}
}
