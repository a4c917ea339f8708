"""The OpenAI Agents SDK, with its tracing on, as it is by default."""

import agents
import wire


async def answer(job):
    agents.set_default_openai_api("responses" if job.api == "responses" else "chat_completions")
    tools = [agents.function_tool(wire.lookup)] if job.tool else []
    agent = agents.Agent(name="Clerk", instructions="Answer.", model=job.model, tools=tools)
    if not job.stream:
        return (await agents.Runner.run(agent, job.text)).final_output
    run = agents.Runner.run_streamed(agent, job.text)
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            wire.say(piece=event.data.delta)
    return run.final_output


wire.serve(answer)
