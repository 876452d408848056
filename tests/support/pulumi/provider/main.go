// A Pulumi provider for the sandbox: enough of AWS that a program in Pulumi YAML can own
// repositories, clusters, services, task definitions, buckets and CloudFormation stacks there, and
// a Thing that is nothing but what the state says. Every resource can be told to take its time
// (delay, in seconds), to fail, and to write a line for every effect into a file (log): what the
// tests of faults need. The endpoint is that of the surroundings; nothing is signed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
)

// Args is what a program gives: Request goes to the service as it is, in the service's own words.
type Args struct {
	Name    string         `pulumi:"name"`
	Value   string         `pulumi:"value,optional"`
	Request map[string]any `pulumi:"request,optional"`
	Targets string         `pulumi:"targets,optional"` // the target group of a service's one load balancer
	Delay   float64        `pulumi:"delay,optional"`
	Fail    bool           `pulumi:"fail,optional"`
	Log     string         `pulumi:"log,optional"`
}

// State is what a program can refer to.
type State struct {
	Args
	Arn     string            `pulumi:"arn"`
	Outputs map[string]string `pulumi:"outputs"`
}

// Kind is one sort of resource; how says which calls make, change and remove it.
type Kind interface{ how() how }

type how struct {
	module, name           string
	create, update, remove func(*State) error
}

type Resource[K Kind] struct{}

func (r *Resource[K]) how() how { var kind K; return kind.how() }

func (r *Resource[K]) Annotate(a infer.Annotator) {
	a.SetToken(tokens.ModuleName(r.how().module), tokens.TypeName(r.how().name))
}

func (r *Resource[K]) Create(_ context.Context, req infer.CreateRequest[Args]) (infer.CreateResponse[State], error) {
	state := State{Args: req.Inputs, Outputs: map[string]string{}}
	if req.DryRun {
		return infer.CreateResponse[State]{ID: "", Output: state}, nil
	}
	err := state.effect("create", r.how().create)
	return infer.CreateResponse[State]{ID: req.Inputs.Name, Output: state}, err
}

func (r *Resource[K]) Update(_ context.Context, req infer.UpdateRequest[Args, State]) (infer.UpdateResponse[State], error) {
	state := State{Args: req.Inputs, Arn: req.State.Arn, Outputs: req.State.Outputs}
	if req.DryRun {
		return infer.UpdateResponse[State]{Output: state}, nil
	}
	err := state.effect("update", r.how().update)
	return infer.UpdateResponse[State]{Output: state}, err
}

func (r *Resource[K]) Delete(_ context.Context, req infer.DeleteRequest[State]) (infer.DeleteResponse, error) {
	// Switches for making do not stand in the way of removing.
	state := req.State
	state.Fail, state.Delay = false, 0
	return infer.DeleteResponse{}, state.effect("delete", r.how().remove)
}

// Diff replaces what has another name, and what cannot be updated.
func (r *Resource[K]) Diff(_ context.Context, req infer.DiffRequest[Args, State]) (infer.DiffResponse, error) {
	detail := map[string]p.PropertyDiff{}
	differs := func(path string, then, now any, kind p.DiffKind) {
		if !reflect.DeepEqual(then, now) {
			detail[path] = p.PropertyDiff{Kind: kind, InputDiff: true}
		}
	}
	then, now, change := req.State.Args, req.Inputs, p.Update
	if r.how().update == nil {
		change = p.UpdateReplace
	}
	differs("name", then.Name, now.Name, p.UpdateReplace)
	differs("targets", then.Targets, now.Targets, p.Update)
	differs("value", then.Value, now.Value, p.Update)
	for key := range then.Request {
		differs("request."+key, then.Request[key], now.Request[key], change)
	}
	for key := range now.Request {
		differs("request."+key, then.Request[key], now.Request[key], change)
	}
	return infer.DiffResponse{HasChanges: len(detail) > 0, DetailedDiff: detail}, nil
}

func (s *State) effect(what string, call func(*State) error) error {
	if err := s.note(what, "begin"); err != nil {
		return err
	}
	time.Sleep(time.Duration(s.Delay * float64(time.Second)))
	if s.Fail {
		return fmt.Errorf("%s of %s: told to fail", what, s.Name)
	}
	if call != nil {
		if err := call(s); err != nil {
			return fmt.Errorf("%s of %s: %w", what, s.Name, err)
		}
	}
	return s.note(what, "end")
}

func (s *State) note(what, when string) error {
	if s.Log == "" {
		return nil
	}
	file, err := os.OpenFile(s.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = fmt.Fprintf(file, "%s %s %s\n", when, what, s.Name)
	return err
}

func send(method, path string, headers map[string]string, body []byte) ([]byte, error) {
	request, err := http.NewRequest(method, os.Getenv("AWS_ENDPOINT_URL")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return text, err
}

// call asks a service that speaks JSON; the ARN is the first one in the answer under that path.
func call(service, operation string, request map[string]any, arn ...string) (string, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return "", err
	}
	headers := map[string]string{
		"X-Amz-Target": service + "." + operation, "Content-Type": "application/x-amz-json-1.1",
		"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/" + os.Getenv("AWS_REGION") + "/x/aws4_request",
	}
	text, err := send("POST", "/", headers, body)
	if err != nil || len(arn) == 0 {
		return "", err
	}
	var answer any
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", err
	}
	for _, name := range arn {
		members, _ := answer.(map[string]any)
		answer = members[name]
	}
	found, _ := answer.(string)
	return found, nil
}

const (
	ecs  = "AmazonEC2ContainerServiceV20141113"
	ecr  = "AmazonEC2ContainerRegistry_V20150921"
	logs = "Logs_20140328"
)

// with is the request and further members, without the named ones.
func (s *State) with(more map[string]any, without ...string) map[string]any {
	request := map[string]any{}
	for name, value := range s.Request {
		request[name] = value
	}
	for _, name := range without {
		delete(request, name)
	}
	for name, value := range more {
		request[name] = value
	}
	return request
}

type Thing struct{}

func (Thing) how() how {
	return how{module: "index", name: "Thing", update: func(*State) error { return nil }}
}

// Database stands for one: it holds nothing, but has a type that a tool should not replace.
type Database struct{}

func (Database) how() how {
	return how{module: "rds", name: "Instance", update: func(*State) error { return nil }}
}

type Repository struct{}

func (Repository) how() how {
	return how{module: "ecr", name: "Repository",
		create: func(s *State) (err error) {
			s.Arn, err = call(ecr, "CreateRepository", s.with(map[string]any{"repositoryName": s.Name}), "repository", "repositoryArn")
			return
		},
		remove: func(s *State) error {
			_, err := call(ecr, "DeleteRepository", map[string]any{"repositoryName": s.Name, "force": true})
			return err
		},
	}
}

type Cluster struct{}

func (Cluster) how() how {
	return how{module: "ecs", name: "Cluster",
		create: func(s *State) (err error) {
			s.Arn, err = call(ecs, "CreateCluster", s.with(map[string]any{"clusterName": s.Name}), "cluster", "clusterArn")
			return
		},
		remove: func(s *State) error {
			_, err := call(ecs, "DeleteCluster", map[string]any{"cluster": s.Name})
			return err
		},
	}
}

type TaskDefinition struct{}

func (TaskDefinition) how() how {
	return how{module: "ecs", name: "TaskDefinition",
		create: func(s *State) (err error) {
			s.Arn, err = call(ecs, "RegisterTaskDefinition", s.with(map[string]any{"family": s.Name}), "taskDefinition", "taskDefinitionArn")
			return
		},
		remove: func(s *State) error {
			_, err := call(ecs, "DeregisterTaskDefinition", map[string]any{"taskDefinition": s.Arn})
			return err
		},
	}
}

// balanced is the request with the target group in its one load balancer. It is no part of the
// request, because a saved plan mixes up what is not known yet inside a map of a list.
func (s *State) balanced(more map[string]any, without ...string) map[string]any {
	request := s.with(more, without...)
	if balancers, _ := request["loadBalancers"].([]any); len(balancers) == 1 && s.Targets != "" {
		balancer := map[string]any{"targetGroupArn": s.Targets}
		if given, ok := balancers[0].(map[string]any); ok {
			for name, value := range given {
				balancer[name] = value
			}
		}
		request["loadBalancers"] = []any{balancer}
	}
	return request
}

type Service struct{}

func (Service) how() how {
	return how{module: "ecs", name: "Service",
		create: func(s *State) (err error) {
			s.Arn, err = call(ecs, "CreateService", s.balanced(map[string]any{"serviceName": s.Name}), "service", "serviceArn")
			return
		},
		update: func(s *State) error {
			_, err := call(ecs, "UpdateService", s.balanced(map[string]any{"service": s.Name}, "launchType"))
			return err
		},
		remove: func(s *State) error {
			_, err := call(ecs, "DeleteService", map[string]any{"cluster": s.Request["cluster"], "service": s.Name, "force": true})
			return err
		},
	}
}

type LogGroup struct{}

func (LogGroup) how() how {
	return how{module: "cloudwatch", name: "LogGroup",
		create: func(s *State) error {
			_, err := call(logs, "CreateLogGroup", map[string]any{"logGroupName": s.Name})
			return err
		},
		remove: func(s *State) error {
			_, err := call(logs, "DeleteLogGroup", map[string]any{"logGroupName": s.Name})
			return err
		},
	}
}

type Bucket struct{}

func (Bucket) how() how {
	return how{module: "s3", name: "Bucket",
		create: func(s *State) error {
			s.Arn = "arn:aws:s3:::" + s.Name
			if _, err := send("PUT", "/"+s.Name, nil, nil); err != nil {
				return err
			}
			_, err := send("PUT", "/"+s.Name+"?versioning", nil, []byte("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"))
			return err
		},
		remove: func(s *State) error { _, err := send("DELETE", "/"+s.Name, nil, nil); return err },
	}
}

// Stack is a CloudFormation stack; value is its template.
type Stack struct{}

func (Stack) how() how {
	return how{module: "cloudformation", name: "Stack",
		create: func(s *State) error { return s.stack("CreateStack") },
		update: func(s *State) error { return s.stack("UpdateStack") },
		remove: func(s *State) error { _, err := s.query("DeleteStack"); return err },
	}
}

// Output is one output of a stack, STACK:KEY; arn is its value.
type Output struct{}

func (Output) how() how {
	return how{module: "cloudformation", name: "Output",
		create: func(s *State) error {
			stack, key, _ := strings.Cut(s.Name, ":")
			whole := State{Args: Args{Name: stack}}
			err := whole.stack("DescribeStacks")
			if s.Arn = whole.Outputs[key]; err == nil && s.Arn == "" {
				err = fmt.Errorf("the stack has no such output")
			}
			return err
		},
	}
}

func (s *State) query(action string) ([]byte, error) {
	form := url.Values{"Action": {action}, "Version": {"2010-05-15"}, "StackName": {s.Name}}
	if strings.HasSuffix(action, "eStack") && action != "DeleteStack" {
		form.Set("TemplateBody", s.Value)
		form.Set("Capabilities.member.1", "CAPABILITY_NAMED_IAM")
	}
	headers := map[string]string{
		"Content-Type":  "application/x-www-form-urlencoded",
		"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/" + os.Getenv("AWS_REGION") + "/cloudformation/aws4_request",
	}
	return send("POST", "/", headers, []byte(form.Encode()))
}

func (s *State) stack(action string) error {
	if _, err := s.query(action); err != nil && !strings.Contains(err.Error(), "No updates") {
		return err
	}
	for {
		text, err := s.query("DescribeStacks")
		if err != nil {
			return err
		}
		var answer struct {
			Stack struct {
				StackId, StackStatus string
				Outputs              struct {
					Member []struct{ OutputKey, OutputValue string } `xml:"member"`
				}
			} `xml:"DescribeStacksResult>Stacks>member"`
		}
		if err := xml.Unmarshal(text, &answer); err != nil {
			return err
		}
		if status := answer.Stack.StackStatus; strings.HasSuffix(status, "_IN_PROGRESS") {
			time.Sleep(100 * time.Millisecond)
			continue
		} else if strings.Contains(status, "ROLLBACK") || strings.Contains(status, "FAILED") {
			return fmt.Errorf("the stack is %s", status)
		}
		s.Arn, s.Outputs = answer.Stack.StackId, map[string]string{}
		for _, output := range answer.Stack.Outputs.Member {
			s.Outputs[output.OutputKey] = output.OutputValue
		}
		return nil
	}
}

func main() {
	provider, err := infer.NewProviderBuilder().WithResources(
		infer.Resource(&Resource[Thing]{}),
		infer.Resource(&Resource[Database]{}),
		infer.Resource(&Resource[Repository]{}),
		infer.Resource(&Resource[Cluster]{}),
		infer.Resource(&Resource[TaskDefinition]{}),
		infer.Resource(&Resource[Service]{}),
		infer.Resource(&Resource[LogGroup]{}),
		infer.Resource(&Resource[Bucket]{}),
		infer.Resource(&Resource[Stack]{}),
		infer.Resource(&Resource[Output]{}),
	).Build()
	if err == nil {
		err = provider.Run(context.Background(), "sandbox", "0.1.0")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
