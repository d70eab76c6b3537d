//! From a method's name to its handler and back to bytes.

use havre_shim_proto::rpc::Request;
use havre_shim_proto::task::{
    CheckpointTaskRequest, CloseIoRequest, ConnectRequest, CreateTaskRequest, DeleteRequest,
    ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, ResizePtyRequest, ResumeRequest,
    SERVICE_V2, SERVICE_V3, ShutdownRequest, StartRequest, StateRequest, StatsRequest, TaskRequest,
    UpdateTaskRequest, WaitRequest,
};
use havre_types::ErrorKind;
use prost::Message as _;

use crate::error::Failure;
use crate::process::Waiter;
use crate::server::Server;

/// What a handler gives.
pub(crate) type Answer<R> = Result<<R as TaskRequest>::Response, Failure>;

impl Server {
    /// Performs the call and answers it; Wait is answered when the process has ended.
    pub(crate) fn dispatch(&mut self, waiter: Waiter, request: &Request) {
        if !matches!(request.service.as_str(), SERVICE_V2 | SERVICE_V3) {
            return self.respond(waiter, Err(unknown("service", &request.service)));
        }
        let payload = request.payload.as_slice();
        let outcome = match request.method.as_str() {
            StateRequest::METHOD => self.perform(payload, |server, call| server.state(&call)),
            CreateTaskRequest::METHOD => self.perform(payload, Self::create),
            StartRequest::METHOD => self.perform(payload, |server, call| server.start(&call)),
            DeleteRequest::METHOD => self.perform(payload, |server, call| server.delete(&call)),
            PidsRequest::METHOD => self.perform(payload, |server, _: PidsRequest| server.pids()),
            PauseRequest::METHOD => self.perform(payload, |server, _: PauseRequest| server.pause()),
            ResumeRequest::METHOD => {
                self.perform(payload, |server, _: ResumeRequest| server.resume())
            }
            CheckpointTaskRequest::METHOD => {
                self.perform(payload, |server, call| server.checkpoint(&call))
            }
            KillRequest::METHOD => self.perform(payload, |server, call| server.kill(&call)),
            ExecProcessRequest::METHOD => self.perform(payload, Self::exec),
            ResizePtyRequest::METHOD => self.perform(payload, |server, call| server.resize(&call)),
            CloseIoRequest::METHOD => self.perform(payload, |server, call| server.close_io(&call)),
            UpdateTaskRequest::METHOD => self.perform(payload, |server, call| server.update(&call)),
            WaitRequest::METHOD => match self.wait(waiter, payload) {
                None => return,
                Some(outcome) => outcome,
            },
            StatsRequest::METHOD => self.perform(payload, |server, _: StatsRequest| server.stats()),
            ConnectRequest::METHOD => {
                self.perform(payload, |server, _: ConnectRequest| Ok(server.connect()))
            }
            ShutdownRequest::METHOD => {
                self.perform(payload, |server, call| Ok(server.shutdown(&call)))
            }
            other => Err(unknown("method", other)),
        };
        self.respond(waiter, outcome);
    }

    fn perform<R: TaskRequest>(
        &mut self,
        payload: &[u8],
        handler: impl FnOnce(&mut Self, R) -> Answer<R>,
    ) -> Result<Vec<u8>, Failure> {
        let call = decode::<R>(payload)?;
        Ok(handler(self, call)?.encode_to_vec())
    }
}

pub(crate) fn decode<R: TaskRequest>(payload: &[u8]) -> Result<R, Failure> {
    R::decode(payload).map_err(|error| {
        let message = format!("failed to decode {}: {error}", R::METHOD);
        Failure::new(ErrorKind::InvalidParameter, message)
    })
}

fn unknown(what: &str, name: &str) -> Failure {
    Failure::new(
        ErrorKind::NotImplemented,
        format!("unknown {what} `{name}`"),
    )
}
