//! The prompts, word by word. `{…}` are the places that are filled in.

/// Before everything else, if tools are there (0.2 and 0.5).
pub const META_CN: &str = "当开启工具以及代码时，根据需求选择合适的工具进行调用";

/// What the code interpreter is.
pub const INTERPRETER_CN: &str = "你现在已经能够在一个有状态的 Jupyter 笔记本环境中运行 Python 代码。\
当你向 python 发送含有 Python 代码的消息时，它将在该环境中执行。\
这个工具适用于多种场景，如数据分析或处理（包括数据操作、统计分析、图表绘制），\
复杂的计算问题（解决数学和物理难题），编程示例（理解编程概念或特性），\
文本处理和分析（比如文本解析和自然语言处理），\
机器学习和数据科学（用于展示模型训练和数据可视化），\
以及文件操作和数据导入（处理CSV、JSON等格式的文件）。";

/// The list of tools; `{prompt}` is JSON.
pub const PLUGIN_CN: &str = "你可以使用如下工具：\n{prompt}\n\
如果你已经获得足够信息，请直接给出答案. 避免不必要的工具调用! \
同时注意你可以使用的工具，不要随意捏造！";

/// Before each function's description in 0.2.
pub const API_PREFIX: &str = "This is the subfunction for tool '{tool_name}', you can use this tool. \
The description of this function is: \n{description}";

/// How arguments are to be passed; a field of every description.
pub const JSON_PARAMETERS: &str = "If you call this tool, you must pass arguments in the JSON format \
{key: value}, where the key is the parameter name.";

/// ReAct in text, Chinese.
pub const REACT_CN: &str = "你是一个可以调用外部工具的助手，可以使用的工具包括：
{tool_description}
如果使用工具请遵循以下格式回复：
```
{thought}思考你当前步骤需要解决什么问题，是否需要使用工具
{action}工具名称，你的工具必须从 [{action_names}] 选择
{action_input}工具输入参数
```
工具返回按照以下格式回复：
```
{response}调用工具后的结果
```
如果你已经知道了答案，或者你不需要工具，请遵循以下格式回复
```
{thought}给出最终答案的思考过程
{finish}最终答案
```
开始!";

/// ReAct in text, English.
pub const REACT_EN: &str = "You are a assistant who can utilize external tools.
{tool_description}
To use a tool, please use the following format:
```
{thought}Think what you need to solve, do you need to use tools?
{action}the tool name, should be one of [{action_names}]
{action_input}the input to the action
```
The response after utilizing tools should using the following format:
```
{response}the results after call the tool.
```
If you already know the answer, or you do not need to use tools,
please using the following format to reply:
```
{thought}the thought process to get the final answer
{finish}final answer
```
Begin!";

/// Asks for an answer in the last turn, Chinese.
pub const FORCE_STOP_CN: &str = "你需要基于历史消息返回一个最终结果";

/// Asks for an answer in the last turn, English.
pub const FORCE_STOP_EN: &str = "You should directly give results\n based on history information.";

/// The answer of ReAct in text when its turns are used up.
pub const SORRY: &str = "Sorry that I cannot answer your question.";

/// ReAct in JSON.
pub const SELECT_ACTION: &str = "你是一个可以调用外部工具的助手，可以使用的工具包括：
{action_info}
{output_format}
开始!";

/// The two forms of an answer in ReAct in JSON.
pub const OUTPUT_FORMAT: &str = "如果使用工具请遵循以下格式回复：
{function_format}

如果你已经知道了答案，或者你不需要工具，请遵循以下格式回复
{finish_format}";

/// ReWOO's planner, Chinese.
pub const PLANNER_CN: &str = "你是一个任务分解器, 你需要将用户的问题拆分成多个简单的子任务。
请拆分出多个子任务项，从而能够得到充分的信息以解决问题, 返回格式如下：
```
Plan: 当前子任务要解决的问题
#E[id] = 工具名称[工具参数]
Plan: 当前子任务要解决的问题
#E[id] = 工具名称[工具参数]
```
其中
1. #E[id] 用于存储Plan id的执行结果, 可被用作占位符。
2. 每个 #E[id] 所执行的内容应与当前Plan解决的问题严格对应。
3. 工具参数可以是正常输入text, 或是 #E[依赖的索引], 或是两者都可以。
4. 工具名称必须从一下工具中选择：
{tool_description}
注意: 每个Plan后有且仅能跟随一个#E。
开始！";

/// ReWOO's planner, English.
pub const PLANNER_EN: &str = "You are a task decomposer, and you need
to break down the user's problem into multiple simple subtasks.
Please split out multiple subtask items so that sufficient
information can be obtained to solve the problem.
The return format is as follows:
```
Plan: the problem to be solved by the current subtask
#E[id] = tool_name[tool_inputs]
Plan: the problem to be solved by the current subtask
#E[id] = tool_name[tool_inputs]
```
1. #E[id] is used to store the execution result of the plan
id and can be used as a placeholder.
2. The content implemented by each #E[id] should strictly
correspond to the problem currently planned to be solved.
3. Tool parameters can be entered as normal text, or
#E[dependency_id], or both.
4. The tool name must be selected from the tool:
{tool_description}.
Note: Each plan should be followed by only one #E.
Start! ";

/// A line of ReWOO's log, Chinese.
pub const WORKER_CN: &str = "\n想法: {thought}\n回答: {action_resp}\n\n";

/// A line of ReWOO's log, English.
pub const WORKER_EN: &str = "\nThought: {thought}\nResponse: {action_resp}\n\n";

/// ReWOO's solver, Chinese.
pub const SOLVER_CN: &str = "解决接下来的任务或者问题。为了帮助你，我们提供了一些相关的计划
和相应的解答。注意其中一些信息可能存在噪声，因此你需要谨慎的使用它们。\n
{question}\n{worker_log}\n现在开始回答这个任务或者问题。请直接回答这个问题，
不要包含其他不需要的文字。{question}\n
";

/// ReWOO's solver, English.
pub const SOLVER_EN: &str = "Solve the following task or problem.
To assist you, we provide some plans and corresponding evidences
that might be helpful. Notice that some of these information
contain noise so you should trust them with caution.\n
{question}\n{worker_log}\nNow begin to solve the task or problem.
Respond with the answer directly with no extra words.{question}\n
";

/// Asks ReWOO's planner once more, Chinese.
pub const REFORMAT_CN: &str = "回答格式错误: {err_msg}。 请重新回答:\n";

/// Asks ReWOO's planner once more, English.
pub const REFORMAT_EN: &str = "Response Format Error: {err_msg}. Please reply again:\n";

/// Fills the places of a prompt. What is filled in is not searched again.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = template;
    'next: while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        for (name, value) in values {
            let after = rest[1..]
                .strip_prefix(name)
                .and_then(|r| r.strip_prefix('}'));
            if let Some(after) = after {
                out.push_str(value);
                rest = after;
                continue 'next;
            }
        }
        out.push('{');
        rest = &rest[1..];
    }
    out.push_str(rest);
    out
}
