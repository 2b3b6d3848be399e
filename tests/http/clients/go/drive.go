// Calls actions of ECS through the cloud's official SDK for Go, as drive_today.py does through Python's: each line that it
// reads names an action and its parameters, and each line that it writes says what became of one.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	ecs "github.com/alibabacloud-go/ecs-20140526/v7/client"
)

// By itself it gives an answer up after 10 s, which a machine that others keep busy may take.
const patience = 60_000

type call struct {
	Action     string
	Parameters json.RawMessage
}

type outcome struct {
	Body     any    `json:"body,omitempty"`
	Revision string `json:"revision,omitempty"`
	Refused  string `json:"refused,omitempty"`
	Kind     string `json:"kind,omitempty"`
}

func main() {
	client, err := ecs.NewClient(configure(os.Args[1], os.Args[2], os.Args[3]))
	if err != nil {
		panic(err)
	}
	lines, answers := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked call
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		if err := answers.Encode(ask(client, asked)); err != nil {
			panic(err)
		}
	}
}

func configure(endpoint, key, secret string) *openapi.Config {
	config := &openapi.Config{AccessKeyId: &key, AccessKeySecret: &secret, Endpoint: &endpoint}
	return config.SetProtocol("http").SetReadTimeout(patience).SetConnectTimeout(patience)
}

// ask makes a call by the SDK's method and request of that name.
func ask(client *ecs.Client, asked call) outcome {
	method := reflect.ValueOf(client).MethodByName(asked.Action)
	if !method.IsValid() {
		return outcome{Refused: "not in this SDK", Kind: "absent"}
	}
	request := reflect.New(method.Type().In(0).Elem())
	if region := request.Elem().FieldByName("RegionId"); region.IsValid() {
		region.Set(reflect.ValueOf(pointer("cn-hangzhou")))
	}
	parameters := json.NewDecoder(bytes.NewReader(asked.Parameters))
	parameters.DisallowUnknownFields()
	if err := parameters.Decode(request.Interface()); err != nil {
		return refuse(err)
	}
	results := method.Call([]reflect.Value{request})
	if err, isError := results[1].Interface().(error); isError {
		return refuse(err)
	}
	answer := results[0].Elem()
	headers := answer.FieldByName("Headers").Interface().(map[string]*string)
	done := outcome{Body: answer.FieldByName("Body").Interface()}
	if revision := headers["x-sgdp-revision"]; revision != nil {
		done.Revision = *revision
	}
	return done
}

func refuse(err error) outcome {
	var coded interface{ GetCode() *string }
	if errors.As(err, &coded) && coded.GetCode() != nil {
		return outcome{Refused: *coded.GetCode(), Kind: fmt.Sprintf("%T", err)}
	}
	return outcome{Refused: err.Error(), Kind: fmt.Sprintf("%T", err)}
}

func pointer(text string) *string { return &text }
